"""Jobs larger than one photo: many photos to rows in files, counting right answers, classes of one's own."""
