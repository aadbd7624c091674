"""From the bytes of a film to grey pixels uint8 [height, width]."""
