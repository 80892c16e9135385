import torch

from influcoder.maths.centring import centred, mean_of

FEATURES = torch.tensor([[1.0, 3.0], [3.0, 5.0], [0.0, 0.0], [float("nan"), 1.0]])


def test_the_mean_is_of_rows_that_have_a_gradient():
    assert mean_of(FEATURES).tolist() == [2.0, 4.0]
    assert mean_of(FEATURES[2:]).tolist() == [0.0, 0.0]


def test_rows_less_their_mean_have_none():
    found = centred(FEATURES[:3], mean_of(FEATURES))
    assert found[:2].mean(dim=0).tolist() == [0.0, 0.0]
    assert found[2].tolist() == [0.0, 0.0]
