"""Pure functions on tensors: boxes, losses, assigning, coding, anchors, suppression."""
