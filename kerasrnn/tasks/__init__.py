"""What is known of each task: settings, run folders, training, use, measuring, export."""
