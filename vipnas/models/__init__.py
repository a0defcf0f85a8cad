"""Networks: elastic layers, the pose network, fusion, counting."""
