"""What methods share, one home each."""
