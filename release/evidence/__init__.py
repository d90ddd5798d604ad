"""What the rules read beside the listing: cards, records, lists, configurations, data and order files, addresses."""
