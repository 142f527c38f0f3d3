"""The truth about credit: enumerable worlds, exact gradients, and what any strategy makes of them."""
