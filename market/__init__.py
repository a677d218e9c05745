"""What people do: labs post work, experts do it, ops steer it."""
