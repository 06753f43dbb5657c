"""Landing zones: folders, S3, SFTP and zip archives, and the arrival of files."""
