"""Labels: both networks are told them, by the published forms; pictures are drawn with the label asked for."""

import math

import pytest
import torch
from torch.nn import functional as F

from components.config import InputError
from components.config.training import WITH_LABELS
from components.generation.sampler import latents, sample
from components.models import build_discriminator, build_generator
from components.models.layers import pixel_norm

LABELS = {"cat": 70, "dog": 20, "owl": 10}
CONFIG = {
    **{"format": 1, "resolution": 16, "channels": 3, "latent_dim": 8, "channel_base": 128, "channel_max": 16},
    "labels": LABELS,
}


def build(arch):
    torch.manual_seed(0)
    config = CONFIG | {"arch": arch}
    generator, discriminator = build_generator(config), build_discriminator(config)
    for network in (generator, discriminator):  # what begins at zero is woken
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    return generator.requires_grad_(False), discriminator.requires_grad_(False)


@pytest.mark.parametrize("arch", WITH_LABELS)
def test_images_and_logits_depend_on_the_label_and_on_each_image_alone(arch):
    generator, discriminator = build(arch)
    z = torch.randn(1, 8).expand(3, -1)
    noise = [torch.zeros(3, 1, *shape) for shape in generator.noise_shapes()]
    labels = torch.tensor([0, 1, 1])
    images = generator.synthesis(generator.truncate(generator.to_w(z, labels), 1.0), noise)
    torch.testing.assert_close(images[1], images[2])
    assert (images[0] - images[1]).abs().max() > 0.01
    same = images[:1].expand(3, -1, -1, -1)
    logits = discriminator(same, labels=labels)
    torch.testing.assert_close(logits[1], logits[2])
    assert (logits[0] - logits[1]).abs() > 1e-3


def test_stylegan2_maps_z_beside_the_normed_embedding():
    """Karras et al. 2020, appendix C, written out."""
    mapping = build("stylegan2")[0].mapping
    z, labels = torch.randn(4, 8), torch.tensor([2, 0, 1, 1])
    x = torch.cat([pixel_norm(z), pixel_norm(mapping.embedding.weight[labels])], dim=1)
    for layer in mapping.layers:
        weight = layer.weight * 0.01 / math.sqrt(x.shape[1])
        x = math.sqrt(2) * F.leaky_relu(x @ weight.T + 0.01 * layer.bias, 0.2)
    torch.testing.assert_close(mapping(z, labels), x)


def test_stylegan2_projects_on_the_embedding():
    """Miyato and Koyama 2018, equation 3: the logit is linear in the label's vector."""
    discriminator = build("stylegan2")[1]
    head, x, labels = discriminator.head, torch.randn(4, 16, 4, 4), torch.tensor([2, 0, 1, 1])
    vectors = []
    head.logit.register_forward_hook(lambda module, given, made: vectors.append(made))
    logits = head(x, labels)
    wanted = pixel_norm(head.embedding.weight[labels])
    torch.testing.assert_close(logits, (vectors[0] * wanted).sum(1) / 4)


def test_r3gan_adds_the_label_to_z():
    generator = build("r3gan")[0]
    z, labels = torch.randn(4, 8), torch.tensor([2, 0, 1, 1])
    w = torch.cat([z, generator.mapping.embedding[labels]], dim=1)
    torch.testing.assert_close(generator.to_w(z, labels), w)
    expected = F.linear(w, generator.scale)[:, :, None, None] * generator.basis
    given = []
    generator.stages["4"].register_forward_pre_hook(lambda module, args: given.append(args[0]))
    generator.synthesis(w[:, None], [])
    torch.testing.assert_close(given[0], expected)


def test_r3gan_projects_on_the_embedding():
    discriminator = build("r3gan")[1]
    features, labels, images = [], torch.tensor([2, 0, 1, 1]), torch.randn(4, 3, 16, 16)
    discriminator.stages["4"].register_forward_hook(lambda module, given, made: features.append(made))
    logits = discriminator(images, labels=labels)
    vectors = (features[0] * discriminator.basis).sum((2, 3)) @ discriminator.logit.T
    torch.testing.assert_close(logits, (vectors * discriminator.embedding[labels]).sum(1) / math.sqrt(8))


@pytest.mark.parametrize("arch", WITH_LABELS)
def test_without_labels_networks_have_none_of_it(arch):
    config = CONFIG | {"arch": arch, "labels": {}}
    for network in (build_generator(config), build_discriminator(config)):
        assert not [name for name, _ in network.named_parameters() if "embedding" in name or "label" in name]


def test_a_seed_has_a_label_drawn_as_often_as_the_images_have_it():
    generator = build("stylegan2")[0]
    drawn = latents(generator, range(2000))
    shares = torch.bincount(drawn.labels, minlength=3) / 2000
    torch.testing.assert_close(shares, torch.tensor([0.7, 0.2, 0.1]), atol=0.03, rtol=0)
    assert latents(generator, range(5, 8)).labels.tolist() == drawn.labels[5:8].tolist()


@pytest.mark.parametrize("arch", WITH_LABELS)
def test_a_label_can_be_asked_for(arch):
    generator = build(arch)[0]
    own = latents(generator, range(20)).labels.tolist()
    of_its_own, owls = sample(generator, range(20)), sample(generator, range(20), label="owl")
    for label, drawn, owl in zip(own, of_its_own, owls, strict=True):
        assert (drawn == owl).all() == (label == 2)
    with pytest.raises(InputError, match="label is 'ant'; allowed: cat, dog, owl"):
        sample(generator, [0], label="ant")


def test_a_label_without_images_is_not_drawn():
    """It keeps its place, and its vector has learnt nothing."""
    torch.manual_seed(0)
    generator = build_generator(CONFIG | {"arch": "stylegan2", "labels": {"ant": 0, **LABELS}})
    assert set(latents(generator, range(200)).labels.tolist()) == {1, 2, 3}
    assert latents(generator, [0], label="dog").labels.tolist() == [2]
    with pytest.raises(InputError, match=r"label is 'ant'; allowed: cat, dog, owl$"):
        latents(generator, [0], label="ant")
