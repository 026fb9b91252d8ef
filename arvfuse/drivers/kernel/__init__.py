"""The FUSE protocol of the kernel, spoken on /dev/fuse without a C library."""
