"""The network that is trained here."""

from timm.models.swin_transformer import SwinTransformer

NAME = "swin_nano_patch4_window7_224"
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def build(num_classes, **options):
    """A Swin transformer of about 6 million parameters; a quarter of Swin-Tiny."""
    return SwinTransformer(img_size=224, patch_size=4, window_size=7, embed_dim=48,
                           depths=(2, 2, 4, 2), num_heads=(3, 6, 12, 24),
                           num_classes=num_classes, **options)
