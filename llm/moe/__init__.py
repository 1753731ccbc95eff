"""Mixtures of experts made from dense models, and what is known about them.

A dense model's feed-forward blocks hold thousands of neurons, of which a token uses few.
`profile` says which, `partition` cuts the neurons into a shared expert and routed ones, `router`
chooses among those, and `carve` does these three for a whole model. `export` writes the result as a
Qwen2-MoE checkpoint. `grow` goes the other way and adds experts to a dense model. `evaluate`
compares a model with the one it came from.
"""
