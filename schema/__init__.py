"""What a release is: the spec, the manifest, and the arithmetic between them. Pure data, no torch, no network."""
