"""`Model`: the public interface of a network, with the functions and attributes that scripts for timm use."""
