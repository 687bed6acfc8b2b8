"""Sources as tensors, each stretch merged when it is asked for; recipes as models."""
