"""What every room uses: text that goes out, paths and files, progress."""
