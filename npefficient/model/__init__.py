"""`Model`: what users hold, and what scripts for timm ask of it."""
