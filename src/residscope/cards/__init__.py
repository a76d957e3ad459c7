"""Cards: what explains one direction, feature or head."""
