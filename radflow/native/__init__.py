"""Operations in C++ for what TensorFlow has none, or a slower one; `python -m radflow build` compiles them."""
