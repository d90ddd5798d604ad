"""DVC stages."""
