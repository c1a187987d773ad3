"""What the operations are made of: one module for each kind of step."""
