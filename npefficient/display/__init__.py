"""Results for people to look at: HTML for notebooks, pictures, numbers in words."""
