"""What one does with a release."""
