"""Every model learns, copies, pickles, and runs under a stock Trainer and from a config."""

import copy
import math
import pickle

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from fedlight.models import (
    GPT,
    LSTM,
    MLP,
    VGG11,
    ConvNet,
    MLPRegressor,
    MobileNetV2,
    ResNet18,
    TextCNN,
    TorchvisionClassifier,
    ViT,
)

BUILDERS = {
    "digits": lambda: ConvNet("digits", lr=0.1),
    "digits_batch": lambda: ConvNet("digits", norm="batch"),
    "mnist": lambda: ConvNet("mnist", lr=0.05),
    "fedmp": lambda: ConvNet("fedmp", lr=0.05),
    "cifar5x5": lambda: ConvNet("cifar5x5", lr=0.05),
    "cifar": lambda: ConvNet("cifar", lr=0.02),
    "resnet18": lambda: ResNet18(width=8, image_size=16, lr=0.05),
    "resnet18_group": lambda: ResNet18(width=8, norm="group", image_size=16, lr=0.05),
    "resnet18_instance": lambda: ResNet18(width=8, norm="instance", image_size=16, lr=0.05),
    "resnet18_none": lambda: ResNet18(width=8, norm="none", image_size=16, lr=0.02),
    "vgg11": lambda: VGG11(lr=0.005),
    "mobilenet_v2": lambda: MobileNetV2(width=0.25, dropout=0.0, lr=0.05),
    "torchvision": lambda: TorchvisionClassifier("shufflenet_v2_x0_5", image_size=32, lr=0.05),
    "vit": lambda: ViT(dim=16, depth=2, num_heads=2, image_size=16, lr=0.1),
    "vit_fused_mean": lambda: ViT(dim=16, depth=2, num_heads=2, image_size=16, fused=True, pooling="mean", lr=0.1),
    "gpt": lambda: GPT(11, 8, dim=16, depth=2, num_heads=4, hidden_dim=24, lr=0.2, momentum=0.9),
    "text_cnn": lambda: TextCNN(20, 3, sequence_length=9, embedding_dim=8, channels=6, dropout=0.0),
    "lstm": lambda: LSTM(20, 3, sequence_length=9, hidden_size=16, num_layers=1, lr=1.0),
    "lstm_every_step": lambda: LSTM(11, sequence_length=8, hidden_size=16, every_step=True, lr=3.0, momentum=0.9),
    "mlp": lambda: MLP(6, 3, hidden=(16,)),
    "mlp_regressor": lambda: MLPRegressor(6, lr=0.05),
}

QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}


def build(name: str) -> LightningModule:
    torch.manual_seed(0)
    return BUILDERS[name]()


def make_batch(module: LightningModule) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = module.example_input_array
    outputs = copy.deepcopy(module).eval()(inputs)
    if isinstance(module, MLPRegressor):
        return inputs, inputs.sum(1)
    return inputs, torch.arange(outputs[..., 0].numel()).view(outputs.shape[:-1]) % module.num_classes


def log_into(module: LightningModule, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    logged: dict[str, object] = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.__setitem__(name, value))
    return logged


@pytest.mark.parametrize("name", BUILDERS)
def test_ten_steps_on_one_batch_lower_the_loss(name, monkeypatch):
    module = build(name)
    batch = make_batch(module)
    logged = log_into(module, monkeypatch)
    optimizer = module.configure_optimizers()
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = module.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert min(losses[-3:]) < 0.9 * losses[0]
    assert logged["train/loss"] is loss


@pytest.mark.parametrize("name", BUILDERS)
def test_copies_and_pickles_compute_the_same(name):
    module = build(name).eval()
    inputs = module.example_input_array
    expected = module(inputs)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):  # noqa: S301
        torch.testing.assert_close(twin(inputs), expected, rtol=0, atol=0)
    assert len(inputs) == 2
    assert not any("accuracy" in key or "mse" in key for key in module.state_dict())


def test_building_leaves_the_random_state_to_the_layers():
    """Two networks built in a row differ, but their example inputs don't."""
    first, second = build("mlp"), MLP(6, 3, hidden=(16,))
    assert not torch.equal(first.layers[0].weight, second.layers[0].weight)
    assert torch.equal(first.example_input_array, second.example_input_array)


def loader(module: LightningModule) -> DataLoader:
    inputs, targets = make_batch(module)
    return DataLoader(TensorDataset(inputs, targets), batch_size=2)


@pytest.mark.parametrize("name", ["digits_batch", "gpt", "mlp_regressor"])
def test_a_stock_trainer_fits_validates_and_tests(name, tmp_path):
    module = build(name)
    Trainer(fast_dev_run=True, default_root_dir=tmp_path, **QUIET).fit(module, loader(module), loader(module))
    score = "mse" if name == "mlp_regressor" else "accuracy"
    # A copy made after a run has other metric objects than those that Lightning remembers by id.
    for twin in (module, copy.deepcopy(module)):
        trainer = Trainer(fast_dev_run=True, default_root_dir=tmp_path, **QUIET)
        assert set(trainer.validate(twin, loader(twin), verbose=False)[0]) == {"val/loss", f"val/{score}"}
        assert set(trainer.test(twin, loader(twin), verbose=False)[0]) == {"test/loss", f"test/{score}"}


def test_accuracy_counts_every_token_once(tmp_path):
    module = build("gpt")
    inputs = torch.randint(11, (5, 8))
    predicted = module.eval()(inputs).argmax(-1)
    targets = predicted.clone()
    targets[:2, :5] = (targets[:2, :5] + 1) % 11  # 10 wrong of 40, all in the first of three batches
    batches = DataLoader(TensorDataset(inputs, targets), batch_size=2)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
    )
    assert trainer.validate(module, batches, verbose=False)[0]["val/accuracy"] == pytest.approx(0.75)


def test_squared_losses_of_single_examples_are_logged_if_asked(monkeypatch):
    module = MLP(2, 2, hidden=(), log_squared_loss=True)
    with torch.no_grad():
        module.layers[-1].weight.copy_(torch.eye(2))
        module.layers[-1].bias.zero_()
    logged = log_into(module, monkeypatch)
    # softmax(0, ln 3) = (1/4, 3/4): losses ln 4 and ln 4/3
    module.training_step((torch.tensor([[0.0, math.log(3)]] * 2), torch.tensor([0, 1])), 0)
    assert logged["train/loss"].item() == pytest.approx((math.log(4) + math.log(4 / 3)) / 2)
    assert logged["train/squared_loss"].item() == pytest.approx((math.log(4) ** 2 + math.log(4 / 3) ** 2) / 2)


def test_mean_squared_error_does_not_broadcast_targets(monkeypatch):
    module = MLPRegressor(2, hidden=())
    with torch.no_grad():
        module.layers[0].weight.copy_(torch.tensor([[1.0, 0.0]]))
        module.layers[0].bias.zero_()
    log_into(module, monkeypatch)
    loss = module.training_step((torch.tensor([[1.0, 0.0], [4.0, 0.0]]), torch.tensor([0.0, 4.0])), 0)
    assert loss.item() == 0.5


def test_optimizer_gets_its_settings_and_no_frozen_parameters():
    module = MLP(6, 3, hidden=(4,), lr=0.3, momentum=0.5, weight_decay=0.1)
    module.layers[0].requires_grad_(False)
    (group,) = module.configure_optimizers().param_groups
    assert [group[key] for key in ("lr", "momentum", "weight_decay")] == [0.3, 0.5, 0.1]
    assert [tuple(parameter.shape) for parameter in group["params"]] == [(3, 4), (3,)]


def test_a_config_names_a_model_by_class_path_and_scalars():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "client")
    arguments = {"variant": "mnist", "num_classes": 62, "lr": 0.03, "label_smoothing": 0.1}
    config = parser.parse_object({"client": {"class_path": "fedlight.models.ConvNet", "init_args": arguments}})
    client = parser.instantiate(config).client
    assert isinstance(client, ConvNet)
    assert (client.lr, client.label_smoothing, client.num_classes) == (0.03, 0.1, 62)
