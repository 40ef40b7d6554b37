"""fedlight: federated training of one model over unequal devices, on physically smaller submodels."""
