"""Order, resolved: from steps to rows, and from rows to bytes. Arithmetic and small readers, without any network."""
