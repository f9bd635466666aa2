"""What the controller decides, as pure functions over plain values."""
