"""What starts the ranks of a job: one file a launcher, and its line in `table`."""
