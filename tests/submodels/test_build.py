"""Built submodels: attributes that follow the tensors, and everything else as it was."""

import lightning.pytorch as pl
import pytest
import torch
from nets import IMAGES, STEPS, TOKENS, Net, conv, conv_net
from torch import nn
from torchmetrics.classification import MulticlassAccuracy
from torchvision.ops import SqueezeExcitation, StochasticDepth

from fedlight.errors import CheckpointError, DataError
from fedlight.models import GPT, Attention, ConvNet, ViT
from fedlight.submodels import SubmodelPlan


def halved(module, inputs, **settings):
    """A submodel with every second unit of each group, at the front of each partition."""
    plan = SubmodelPlan.trace(module, inputs, **settings)
    keep = torch.zeros(plan.num_units, dtype=torch.bool)
    for group in plan.groups:
        part = group.size // group.partitions
        for start in range(group.start, group.start + group.size, part):
            keep[start : start + (part + 1) // 2] = True
    return plan.build(module, keep)


def test_convolutions_and_linear_layers_say_their_widths():
    net = Net(
        lambda net, x: net.fc(net.t(net.d(net.g(net.a(x)).relu())).mean((2, 3))),
        a=conv(3, 8),
        g=conv(8, 12, groups=2),
        d=conv(12, 12, groups=12),
        t=nn.ConvTranspose2d(12, 6, 2),
        fc=nn.Linear(6, 5),
    )
    sub = halved(net, IMAGES)
    assert (sub.a.in_channels, sub.a.out_channels) == (3, 4)
    assert (sub.g.in_channels, sub.g.out_channels, sub.g.groups) == (4, 6, 2)
    assert (sub.d.in_channels, sub.d.out_channels, sub.d.groups) == (6, 6, 6)
    assert (sub.t.in_channels, sub.t.out_channels) == (6, 3)
    assert (sub.fc.in_features, sub.fc.out_features) == (3, 5)
    assert repr(sub.d) == "Conv2d(6, 6, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), groups=6)"


@pytest.mark.parametrize(
    ("norm", "attribute", "value"),
    [
        (nn.BatchNorm2d(8), "num_features", 4),
        (nn.BatchNorm2d(8, affine=False), "num_features", 4),
        (nn.InstanceNorm2d(8), "num_features", 4),  # without tensors; at a wrong width its forward warns
        (nn.InstanceNorm2d(8, affine=True, track_running_stats=True), "num_features", 4),
        (nn.GroupNorm(2, 8), "num_channels", 4),
        (nn.GroupNorm(4, 8, affine=False), "num_channels", 4),
        (nn.PReLU(8), "num_parameters", 4),
        (nn.PReLU(), "num_parameters", 1),
        (StochasticDepth(0.5, "row"), "p", 0.5),
    ],
)
def test_norms_say_their_widths(norm, attribute, value):
    sub = halved(conv_net(norm), IMAGES)
    assert getattr(sub.norm, attribute) == value
    sub(IMAGES).sum().backward()


@pytest.mark.parametrize("norm", [nn.LayerNorm(8), nn.LayerNorm(8, elementwise_affine=False), nn.RMSNorm(8)])
def test_norms_over_the_last_dim_say_their_shape(norm):
    net = Net(lambda net, x: net.fc(net.norm(net.a(x))), a=nn.Linear(6, 8), norm=norm, fc=nn.Linear(8, 5))
    assert halved(net, STEPS).norm.normalized_shape == (4,)


def test_squeeze_and_excitation_narrows_inside_and_out():
    sub = halved(conv_net(SqueezeExcitation(8, 4)), IMAGES)
    assert (sub.norm.fc1.in_channels, sub.norm.fc1.out_channels, sub.norm.fc2.out_channels) == (4, 2, 4)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_use_their_thin_weights(kind):
    net = Net(
        lambda net, x: net.fc(net.r(net.e(x))[0][:, -1]),
        e=nn.Embedding(11, 4),
        r=kind(4, 6, num_layers=2, batch_first=True),
        fc=nn.Linear(6, 5),
    )
    sub = halved(net, TOKENS)
    assert (sub.e.embedding_dim, sub.r.input_size, sub.r.hidden_size) == (2, 2, 3)
    assert [id(weight) for weight in sub.r._flat_weights] == [id(weight) for weight in sub.r.parameters()]
    sub(TOKENS).sum().backward()
    assert all(parameter.grad is not None for parameter in sub.r.parameters())


@pytest.mark.parametrize("fused", [False, True])
def test_attention_counts_its_heads(fused):
    net = nn.Sequential(nn.Linear(6, 8), Attention(8, 4, head_dim=3, fused=fused), nn.Linear(8, 5))
    sub = halved(net, STEPS)
    assert (sub[1].num_heads, sub[1].num_kv_heads, sub[1].head_dim) == (2, 2, 3)
    assert (sub[1].out_proj.in_features, sub[1].out_proj.out_features) == (6, 4)


def test_grouped_queries_keep_their_key_value_heads():
    sub = halved(GPT(11, 6, dim=16, depth=1, num_heads=8, num_kv_heads=2, hidden_dim=12), TOKENS)
    attention = sub.blocks[0].attention
    assert (attention.num_heads, attention.num_kv_heads) == (4, 2)
    assert (attention.q_proj.out_features, attention.k_proj.out_features) == (8, 4)


def test_frozen_parameters_stay_frozen():
    net = conv_net(nn.BatchNorm2d(8))
    net.a.requires_grad_(False)
    net.norm.weight.requires_grad_(False)
    sub = halved(net, IMAGES)
    assert {name for name, p in sub.named_parameters() if not p.requires_grad} == {"a.weight", "a.bias", "norm.weight"}
    assert sub.a.weight.shape == (4, 3, 3, 3)


class Client(pl.LightningModule):
    """A user's module: hyperparameters, a metric, an example, and attributes of its own."""

    def __init__(self, width=8, lr=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.example_input_array = IMAGES
        self.net = conv_net(nn.BatchNorm2d(width))
        self.accuracy = MulticlassAccuracy(5)
        self.notes = {"classes": ["a", "b"], "best": self.net.a}

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.accuracy(self(batch[0]), batch[1])
        self.log("train/accuracy", self.accuracy)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


def test_lightning_module_is_whole_but_for_its_widths():
    client = Client(lr=0.25)
    sub = halved(client, IMAGES)
    assert type(sub) is Client
    assert sub.hparams == {"width": 8, "lr": 0.25}
    assert isinstance(sub.accuracy, MulticlassAccuracy)
    assert sub.accuracy is not client.accuracy
    assert sub.notes["classes"] == ["a", "b"]
    assert sub.notes["best"] is sub.net.a
    sub.accuracy(sub(IMAGES), torch.tensor([0, 1]))
    assert (int(sub.accuracy.tp.sum() + sub.accuracy.fn.sum()), int(client.accuracy.fn.sum())) == (2, 0)
    sub(IMAGES).sum().backward()
    sub.configure_optimizers().step()


def test_module_in_a_trainer_is_copied_without_it():
    client = Client()
    data = torch.utils.data.DataLoader([(IMAGES[0], 0), (IMAGES[1], 1)], batch_size=2)
    trainer = pl.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(client, data)
    assert client._trainer is trainer
    sub = halved(client, IMAGES)
    assert sub._trainer is None
    assert sub(IMAGES).shape == (2, 5)


def test_build_takes_the_weights_of_the_module_it_is_given():
    plan = SubmodelPlan.trace(conv_net(nn.BatchNorm2d(8)), IMAGES)
    other = conv_net(nn.BatchNorm2d(8))
    keep = plan.keep(torch.arange(float(plan.num_units)), 0.5)
    sub = plan.build(other, keep)
    thin = plan.slice(other.state_dict(), keep)
    assert all(torch.equal(tensor, thin[name]) for name, tensor in sub.state_dict().items())
    sub.a.weight.data.zero_()
    assert other.a.weight.abs().sum() > 0


def test_full_keep_builds_an_equal_module():
    net = ConvNet()
    plan = SubmodelPlan.trace(net, net.example_input_array)
    same = plan.build(net, plan.full_keep()).eval()
    assert torch.equal(same(net.example_input_array), net.eval()(net.example_input_array))


def test_other_architecture_is_refused():
    plan = SubmodelPlan.trace(conv_net(), IMAGES)
    with pytest.raises(CheckpointError, match=r"fc.weight.*shape|shape.*fc.weight"):
        plan.build(Net(lambda net, x: x, a=conv(3, 8), b=conv(8, 6), fc=nn.Linear(7, 5)), plan.full_keep())
    with pytest.raises(CheckpointError, match="extra"):
        plan.build(Net(lambda net, x: x, a=conv(3, 8), extra=nn.Linear(7, 5)), plan.full_keep())
    with pytest.raises(DataError, match="num_units"):
        plan.build(conv_net(), torch.ones(3, dtype=torch.bool))


def test_device_of_the_module_is_kept():
    net = ViT(image_size=8, dim=16, depth=1).to("meta")
    plan = SubmodelPlan.trace(ViT(image_size=8, dim=16, depth=1), torch.randn(2, 3, 8, 8))
    sub = plan.build(net, plan.keep(torch.zeros(plan.num_units), 0.5))
    assert {parameter.device.type for parameter in sub.parameters()} == {"meta"}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_memory_format_of_convolutions_stays(memory_format):
    module = conv_net(nn.BatchNorm2d(8)).to(memory_format=memory_format)
    plan = SubmodelPlan.trace(module, IMAGES)
    for keep in (plan.full_keep(), plan.keep(torch.rand(plan.num_units), 0.5, round_to=1)):
        thin = plan.build(module, keep)
        for name, parameter in thin.named_parameters():
            if parameter.dim() == 4:
                assert parameter.is_contiguous(memory_format=memory_format), name
        state = plan.slice(module.state_dict(), keep)
        assert all(torch.equal(value, state[name]) for name, value in thin.state_dict().items())
