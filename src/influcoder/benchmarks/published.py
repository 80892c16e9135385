"""What DATE-LM's leaderboard says (files of 2025-05-15), as context: other models, data and sizes, never a rerun."""

TOXICITY = {
    "Rep-Sim": (0.498, 0.672),
    "Grad-Dot": (0.326, 0.522),
    "Grad-Sim": (0.466, 0.584),
    "LESS": (0.515, 0.704),
    "DataInf": (0.328, 0.563),
    "EK-FAC": (0.313, 0.571),
}
"""AUPRC with Pythia-1B, means over three sets of 10,000 rows and more: (heterogeneous, homogeneous)"""

COUNTERFACT = {
    "BM25": (0.305, 0.771),
    "Rep-Sim": (0.376, 0.790),
    "Grad-Dot": (0.466, 0.768),
    "Grad-Sim": (0.493, 0.836),
    "LESS": (0.500, 0.772),
    "DataInf": (0.472, 0.765),
    "EK-FAC": (0.465, 0.766),
}
"""(Recall@50, MRR) with Pythia-1B; 5,473 rows, 66 references"""
