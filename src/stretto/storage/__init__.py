"""What a replica keeps on disk: the file layout, and the store over a directory of files. Pure: the caller passes the files in."""
