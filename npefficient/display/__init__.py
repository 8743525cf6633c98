"""Results for people: HTML for notebooks, pictures, numbers in words."""
