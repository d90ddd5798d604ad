"""The rules, one class each. `RULES` is the whole list, in the order of their codes: nothing registers itself."""

from __future__ import annotations

from open360.release.rules.addresses import DeadAddress
from open360.release.rules.card_texts import CardLicenseDiffers, CardTextContradicts
from open360.release.rules.code import LockMissing, LockUnpinned, StaleSegments, UncommittedCode, UnpinnedCode
from open360.release.rules.completeness import SpecIncomplete
from open360.release.rules.configurations import ConfigurationContradicts
from open360.release.rules.data import ChunkRanges, ChunkRows, TrainedOnOtherRows
from open360.release.rules.data_files import DataFileMissing, DataFileSize
from open360.release.rules.data_pins import UnpinnedData, UnseededProcessing
from open360.release.rules.documents import (
    ManifestMissing,
    ManifestNotReproducible,
    ManifestOfAnotherSpec,
    ManifestUnreadable,
    SpecUnreadable,
)
from open360.release.rules.evaluations import EvaluationMissing, HarnessUnpinned, RecordUnreadable
from open360.release.rules.golden_batches import GoldenBatchDiffers
from open360.release.rules.ids import IdBeyondVocabulary, SpecialIdNeverSeen
from open360.release.rules.integrity import AlteredFile, ExtraFile, MisplacedFile, MissingFile, UnsafePath, WrongSize
from open360.release.rules.licenses import LicenseContradiction, LicenseMissing, UnknownSpdxId
from open360.release.rules.lineage import MergePartMissing, ParentUnpublished
from open360.release.rules.lists import ListDiffers
from open360.release.rules.logs import LogsElsewhere
from open360.release.rules.measured_models import RecordOfAnotherModel
from open360.release.rules.order_files import NoPermutation, OrderBeyondData, OrderFileMissing, OrderFileSize
from open360.release.rules.orders import OrderUndeclared, OrderUnknown, OrderUnpinned
from open360.release.rules.positions import (
    ConfigDiffers,
    PositionNotContinued,
    SwappedCheckpoint,
    TokenizerDiffers,
    WrongParent,
)
from open360.release.rules.revisions import (
    AliasDiffers,
    CardMissing,
    RepositoryMissing,
    RepositoryRenamed,
    RevisionMoved,
    RevisionUnpinned,
    ServedBytesDiffer,
    StrayFiles,
)
from open360.release.rules.rule import CannotCheckError, Rule
from open360.release.rules.runs import RestartInconsistent, TokensContradict
from open360.release.rules.scores import ScoreJumps, ScoreOutOfRange
from open360.release.rules.series import BrokenChain, LabelDiffers, MissingPart, SeriesIncomplete
from open360.release.rules.siblings import ChunkUnlikeSiblings
from open360.release.rules.storage import PickleWeights, RepeatedWeights, StorageChanges
from open360.release.rules.tensors import UnreadableTensors, WrongShapes, WrongTensorsDigest
from open360.release.rules.traces import NonFiniteMetric, TraceInconsistent, TraceMissing
from open360.release.rules.weights import (
    ForwardPassFails,
    NonFiniteWeights,
    UnlikeNeighbours,
)

__all__ = ["RULES", "CannotCheckError", "Rule"]

RULES: tuple[Rule, ...] = (
    SeriesIncomplete(),
    MissingPart(),
    RepeatedWeights(),
    SwappedCheckpoint(),
    BrokenChain(),
    WrongParent(),
    PickleWeights(),
    ConfigDiffers(),
    TokenizerDiffers(),
    WrongTensorsDigest(),
    WrongShapes(),
    NonFiniteWeights(),
    UnlikeNeighbours(),
    ForwardPassFails(),
    UnreadableTensors(),
    LabelDiffers(),
    StorageChanges(),
    PositionNotContinued(),
    ListDiffers(),
    LockMissing(),
    UnpinnedCode(),
    StaleSegments(),
    LockUnpinned(),
    UncommittedCode(),
    ChunkRanges(),
    ChunkRows(),
    TrainedOnOtherRows(),
    UnpinnedData(),
    DataFileSize(),
    UnseededProcessing(),
    SpecialIdNeverSeen(),
    ChunkUnlikeSiblings(),
    IdBeyondVocabulary(),
    DataFileMissing(),
    RevisionMoved(),
    RevisionUnpinned(),
    DeadAddress(),
    CardMissing(),
    StrayFiles(),
    AliasDiffers(),
    RepositoryMissing(),
    RepositoryRenamed(),
    MissingFile(),
    ExtraFile(),
    WrongSize(),
    AlteredFile(),
    UnsafePath(),
    MisplacedFile(),
    ServedBytesDiffer(),
    LicenseMissing(),
    UnknownSpdxId(),
    LicenseContradiction(),
    CardLicenseDiffers(),
    CardTextContradicts(),
    TraceMissing(),
    TraceInconsistent(),
    EvaluationMissing(),
    NonFiniteMetric(),
    HarnessUnpinned(),
    RecordOfAnotherModel(),
    RecordUnreadable(),
    ScoreOutOfRange(),
    ScoreJumps(),
    LogsElsewhere(),
    OrderUndeclared(),
    OrderUnknown(),
    OrderFileMissing(),
    OrderFileSize(),
    NoPermutation(),
    OrderBeyondData(),
    OrderUnpinned(),
    GoldenBatchDiffers(),
    ConfigurationContradicts(),
    ParentUnpublished(),
    RestartInconsistent(),
    TokensContradict(),
    MergePartMissing(),
    SpecUnreadable(),
    SpecIncomplete(),
    ManifestMissing(),
    ManifestUnreadable(),
    ManifestOfAnotherSpec(),
    ManifestNotReproducible(),
)
