"""Where the methods that a study may choose come from: what a report cites."""

from __future__ import annotations

SOURCES: dict[str, str] = {
    # aggregation rules
    "mean": "McMahan et al. Communication-efficient learning of deep networks from decentralized data. AISTATS 2017. "
    "arXiv 1602.05629.",
    "trimmed_mean": "Yin et al. Byzantine-robust distributed learning: towards optimal statistical rates. ICML 2018. "
    "arXiv 1803.01498.",
    "krum": "Blanchard et al. Machine learning with adversaries: Byzantine tolerant gradient descent. NeurIPS 2017.",
    "clusters": "Cai et al. Many-task federated learning: a new problem setting and a simple baseline. CVPR Workshops "
    "2023.",
    "fedhca2": "Lu et al. FedHCA2: towards hetero-client federated multi-task learning. CVPR 2024. arXiv 2311.13250.",
    "clip": "Sun et al. Can you really backdoor federated learning? 2019. arXiv 1911.07963.",
    "momentum": "Hsu et al. Measuring the effects of non-identical data distribution for federated visual "
    "classification. 2019. arXiv 1909.06335.",
    "fedopt": "Reddi et al. Adaptive federated optimization. ICLR 2021. arXiv 2003.00295.",
    "fedbn": "Li et al. FedBN: federated learning on non-IID features via local batch normalization. ICLR 2021. "
    "arXiv 2102.07623.",
    # schedules, and what a site trains beside
    "fedrep": "Collins et al. Exploiting shared representations for personalized federated learning. ICML 2021. "
    "arXiv 2102.07078.",
    "fedper": "Arivazhagan et al. Federated learning with personalization layers. 2019. arXiv 1912.00818.",
    "fedbabu": "Oh et al. FedBABU: toward enhanced representation for federated image classification. ICLR 2022. "
    "arXiv 2106.06042.",
    "fedprox": "Li et al. Federated optimization in heterogeneous networks. MLSys 2020. arXiv 1812.06127.",
    "moon": "Li et al. Model-contrastive federated learning. CVPR 2021. arXiv 2103.16257.",
    "ditto": "Li et al. Ditto: fair and robust federated learning through personalization. ICML 2021. "
    "arXiv 2012.04221.",
    # encoders and branches
    "segres": "Myronenko. 3D MRI brain tumor segmentation using autoencoder regularization. 2018. arXiv 1810.11654.",
    "basicunet": "Ronneberger et al. U-Net: convolutional networks for biomedical image segmentation. MICCAI 2015. "
    "arXiv 1505.04597.",
    "resnet": "He et al. Deep residual learning for image recognition. CVPR 2016. arXiv 1512.03385.",
    "swin": "Liu et al. Swin transformer: hierarchical vision transformer using shifted windows. ICCV 2021. "
    "arXiv 2103.14030.",
    "vit": "Dosovitskiy et al. An image is worth 16x16 words: transformers for image recognition at scale. ICLR 2021. "
    "arXiv 2010.11929.",
    "cbam": "Woo et al. CBAM: convolutional block attention module. ECCV 2018. arXiv 1807.06521.",
    "cross_stitch": "Misra et al. Cross-stitch networks for multi-task learning. CVPR 2016. arXiv 1604.03539.",
    "nddr": "Gao et al. NDDR-CNN: layerwise feature fusing in multi-task CNNs by neural discriminative dimensionality "
    "reduction. CVPR 2019. arXiv 1801.08297.",
    "distillation": "Xu et al. PAD-Net: multi-tasks guided prediction-and-distillation network. CVPR 2018. "
    "arXiv 1805.04409.",
    "attention": "Liu et al. End-to-end multi-task learning with attention. CVPR 2019. arXiv 1803.10704.",
    # balancers; some are rules of the hub too
    "uncertainty": "Kendall et al. Multi-task learning using uncertainty to weigh losses for scene geometry and "
    "semantics. CVPR 2018. arXiv 1705.07115.",
    "dwa": "Liu et al. End-to-end multi-task learning with attention. CVPR 2019. arXiv 1803.10704.",
    "rlw": "Lin et al. Reasonable effectiveness of random weighting. 2021. arXiv 2111.10603.",
    "gls": "Chennupati et al. MultiNet++. CVPR Workshops 2019. arXiv 1904.08492.",
    "imtl": "Liu et al. Towards impartial multi-task learning. ICLR 2021.",
    "famo": "Liu et al. FAMO: fast adaptive multitask optimization. NeurIPS 2023. arXiv 2306.03792.",
    "gradnorm": "Chen et al. GradNorm: gradient normalization for adaptive loss balancing in deep multitask networks. "
    "ICML 2018. arXiv 1711.02257.",
    "pcgrad": "Yu et al. Gradient surgery for multi-task learning. NeurIPS 2020. arXiv 2001.06782.",
    "mgda": "Désidéri. Multiple-gradient descent algorithm (MGDA) for multiobjective optimization. Comptes Rendus "
    "Mathématique 350, 2012.",
    "aligned_mtl": "Senushkin et al. Independent component alignment for multi-task learning. CVPR 2023. "
    "arXiv 2305.19000.",
    "cagrad": "Liu et al. Conflict-averse gradient descent for multi-task learning. NeurIPS 2021. arXiv 2110.14048.",
    "db_mtl": "Lin et al. Dual-balancing for multi-task learning. 2023. arXiv 2308.12029.",
    "upgrad": "Quinton and Rey. Jacobian descent for multi-objective optimization. 2024. arXiv 2406.16232.",
}
OTHER_NAMES = {"median": "trimmed_mean", "imtl_l": "imtl", "imtl_g": "imtl"} | dict.fromkeys(
    ("adam", "yogi", "adagrad"), "fedopt"
)


def source_of(method: str) -> str:
    """The source of a method by its name in a study, or nothing where none is kept here."""
    return SOURCES.get(OTHER_NAMES.get(method, method), "")
