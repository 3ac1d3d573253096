"""What is computed: tensors in, tensors out. Nothing here knows a host."""
