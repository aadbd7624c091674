"""Class activation maps: where in a film the evidence for each finding lies."""

from __future__ import annotations

import keras


def with_activation_maps(classifier: keras.Model) -> keras.Model:
    """A model that shares `classifier`'s weights: films -> (probabilities [n, F], maps [n, h, w, F]).

    The logit of a finding is the mean over the last feature maps of their weighted sum, plus a bias; that weighted sum
    is its class activation map (Zhou et al. 2016, doi:10.1109/CVPR.2016.319, section 2), which so is exact: a map's
    mean is its logit without the bias. The maps of a snapshot ensemble are the means of those of its members.

    Raises ValueError for a model whose head is another than that of `build_classifier`.
    """
    members = [layer for layer in classifier.layers if isinstance(layer, keras.Model) and _has_our_head(layer)]
    if not members:
        return _with_maps(classifier)
    outputs = [_with_maps(member)(classifier.input) for member in members]
    means = [keras.layers.Average(dtype="float32")(list(of_members)) for of_members in zip(*outputs, strict=True)]
    return keras.Model(classifier.input, means)


def with_features(classifier: keras.Model) -> keras.Model:
    """A model that shares `classifier`'s weights: films -> (probabilities [n, F], features [n, D]).

    The features are what the head weighs: the means of the last feature maps. Those of an ensemble are its members'
    side by side. Raises ValueError for a model whose head is another than that of `build_classifier`.
    """
    members = [layer for layer in classifier.layers if isinstance(layer, keras.Model) and _has_our_head(layer)]
    if not members:
        return keras.Model(classifier.input, [classifier.output, _pool_of(classifier).output])
    pooled = [keras.Model(member.input, _pool_of(member).output)(classifier.input) for member in members]
    features = keras.layers.Concatenate(dtype="float32")(pooled) if len(pooled) > 1 else pooled[0]
    return keras.Model(classifier.input, [classifier.output, features])


def _pool_of(model: keras.Model) -> keras.layers.Layer:
    if not _has_our_head(model):
        raise ValueError(f"{model.name} does not end in global average pooling and one dense layer")
    return model.layers[-3]


def _has_our_head(model: keras.Model) -> bool:
    pool, logits, _ = [*model.layers[-3:], None, None, None][:3]
    return isinstance(pool, keras.layers.GlobalAveragePooling2D) and isinstance(logits, keras.layers.Dense)


def _with_maps(model: keras.Model) -> keras.Model:
    """`with_activation_maps` of a model that is no ensemble."""
    pool, logits = _pool_of(model), model.layers[-2]
    features = keras.layers.Activation("linear", dtype="float32")(pool.input)
    weigh = keras.layers.Dense(logits.units, use_bias=False, dtype="float32", name="activation_maps")
    maps = weigh(features)
    weigh.kernel.assign(logits.kernel)
    return keras.Model(model.input, [model.output, maps])
