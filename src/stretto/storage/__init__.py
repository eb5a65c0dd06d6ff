"""What a replica keeps on disk: the layout, and the store over a directory of files. Pure: the files themselves are handed in."""
