"""Reports of the validator: the dial, the classes of openness, and a form for every reader."""
