"""The CUDA device: kernels, memory, streams; cuts, shapes and composites on an NVIDIA GPU."""
