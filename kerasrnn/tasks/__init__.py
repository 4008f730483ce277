"""What the command line wires: a task from its files to its run folder and back."""
