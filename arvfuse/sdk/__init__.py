"""The Collection SDK: trees, buffer blocks, log, replica, committer; needs only ports."""
