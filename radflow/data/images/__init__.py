"""Bytes of a film decoded to grey pixels uint8 [height, width]."""
