"""What every room uses: text for people, paths and files, progress."""
