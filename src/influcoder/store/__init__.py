"""Files and folders on disk that are whole, resumable and checked."""
