"""Tasks that are no part of the product: the contract is held against them."""
