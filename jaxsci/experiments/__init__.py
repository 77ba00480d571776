"""Experiments and work on files, as the command line runs them: callable from notebooks."""

from ._constrain import Constrained as Constrained
from ._constrain import constrain_arrays as constrain_arrays
from ._constrain import constrain_file as constrain_file
from ._constrain_report import ConstrainReport as ConstrainReport
from ._constrain_settings import ConstrainSettings as ConstrainSettings
from ._run import RunResult as RunResult
from ._run import run_experiment as run_experiment
from ._run_evaluation import METHODS as METHODS
from ._run_evaluation import Showcase as Showcase
from ._run_evaluation import evaluate_surrogate as evaluate_surrogate
from ._run_evaluation import showcase as showcase
from ._run_settings import BUDGETS as BUDGETS
from ._run_settings import Budget as Budget
from ._run_settings import RunSettings as RunSettings
from ._run_training import train_surrogate as train_surrogate
from ._slam import SlamResult as SlamResult
from ._slam import optimise_graph as optimise_graph
from ._slam import optimise_graph_file as optimise_graph_file
from ._slam_bench import SlamBench as SlamBench
from ._slam_bench import SlamBenchSettings as SlamBenchSettings
from ._slam_bench import benchmark_graphs as benchmark_graphs
from ._slam_settings import SlamSettings as SlamSettings
