"""The evaluation's machinery: cached results, tables, charts and the report."""

import csv
import io
from typing import get_args

import numpy as np
import pytest
import torch

from icportrait.training.evaluation import charts, evaluate, result_cache, statistics
from icportrait.training.evaluation.cases import Case, Shot, face_from_five, photo_cases
from icportrait.training.evaluation.metrics.likeness import one_minus_distance
from icportrait.training.evaluation.recognisers import Recogniser, find_arcface
from icportrait.training.evaluation.report import Page
from icportrait.training.evaluation.results import Maker, run_results
from icportrait.training.evaluation.scoring import Scorer

FIVE = np.array([(90.0, 110), (166, 110), (128, 150), (98, 190), (158, 190)])


def picture(value, size=64):
    return torch.full((1, size, size, 3), float(value))


def a_case(key="p--s", **changes):
    shot = Shot(picture(0.2), face_from_five(FIVE / 4))
    return Case(**{"key": key, "identity": "p", "profile": shot, "style": shot, "photos": (shot,)} | changes)


class CountingScorer(Scorer):
    """Scores by the picture's mean alone."""

    def __init__(self):
        super().__init__([], light=False)
        self.calls = 0

    def score(self, case, picture):
        self.calls += 1
        return {"mean": float(picture.mean()), "similarities": {}}


class TestCache:
    def test_a_repeated_run_makes_and_measures_nothing_again(self, tmp_path):
        made = []

        def make(case):
            made.append(case.key)
            return picture(0.5)

        cases, makers = [a_case("a"), a_case("b")], {"one method": Maker(make, {"steps": 4})}
        first = run_results({"net": "1"}, cases, makers, CountingScorer(), result_cache.ResultCache(tmp_path))
        again = CountingScorer()
        assert run_results({"net": "1"}, cases, makers, again, result_cache.ResultCache(tmp_path)) == first
        assert made == ["a", "b"] and again.calls == 0
        assert first[0]["mean"] == pytest.approx(128 / 255)  # what is measured is what was stored, 8 bits

    @pytest.mark.parametrize(
        "files,facts,style", [({"net": "2"}, {}, 0.2), ({"net": "1"}, {"x": 1}, 0.2), ({"net": "1"}, {}, 0.3)]
    )
    def test_another_net_setting_or_input_is_another_result(self, tmp_path, files, facts, style):
        made = []
        cache = result_cache.ResultCache(tmp_path)

        def make(case):
            made.append(1)
            return picture(0.5)

        run_results({"net": "1"}, [a_case()], {"m": Maker(make, {})}, CountingScorer(), cache)
        case = a_case(style=Shot(picture(style), face_from_five(FIVE / 4)))
        run_results(files, [case], {"m": Maker(make, facts)}, CountingScorer(), cache)
        assert len(made) == 2

    def test_an_interrupted_case_is_made_again(self, tmp_path):
        cache = result_cache.ResultCache(tmp_path)
        cache.picture("a", "m", "1", lambda: picture(0.1))
        with pytest.raises(RuntimeError):
            cache.picture("a", "m", "2", lambda: (_ for _ in ()).throw(RuntimeError()))
        assert cache.picture("a", "m", "1", lambda: picture(0.9)).mean() > 0.5
        assert not list(tmp_path.glob("*.part"))


def line_recogniser():
    """Embeds a picture as its mean: similarities by hand."""
    return Recogniser("line", "1", lambda p, face: np.array([float(p.mean())]), one_minus_distance)


class TestTables:
    def test_table1_and_its_upper_bound(self):
        shots = [Shot(picture(value), face_from_five(FIVE / 4)) for value in (0.0, 0.5, 1.0)]
        case = a_case(profile=shots[0], photos=tuple(shots))
        rows = [{"method": "m", "similarities": {"line": [1.0, 0.5, 0.0]}}]
        table = evaluate.table1(rows, [case], Scorer([line_recogniser()]), line_recogniser())
        assert table["upper bound"]["count"] == 3  # pairs of three photos: 0.5, 0.5, 0
        assert table["upper bound"]["mean"] == pytest.approx(1 / 3)
        assert table["m"]["max"] == 1.0 and table["m"]["share_of_upper_bound"] == pytest.approx(1.5)

    def test_the_ground_truth_is_a_real_picture_but_no_profile_photo(self):
        truth = Shot(picture(0.7), face_from_five(FIVE / 4))
        people = evaluate.pictures_of_people([a_case(truth=truth)])
        assert len(people["p"]) == 2

    def test_means_leave_out_what_could_not_be_measured(self):
        rows = [{"method": "m", "a": 1.0}, {"method": "m", "a": None}, {"method": "m", "a": 2.0}]
        assert evaluate.means(rows, {"a": ("1", 1), "b": ("1", 1)}) == {"m": {"a": 1.5, "b": None}}

    def test_csv_has_a_line_a_result(self):
        rows = [{"case": "c", "identity": "i, j", "method": "m", "a": 0.5}]
        lines = list(csv.reader(io.StringIO(evaluate.csv_text(rows, {"a": None}))))
        assert lines == [["case", "identity", "method", "a"], ["c", "i, j", "m", "0.5"]]

    def test_data_or_photos_not_both(self, tmp_path):
        for data, photos in ((None, None), (tmp_path, tmp_path)):
            with pytest.raises(ValueError, match="either --data"):
                evaluate.load_cases(evaluate.EvaluationSettings(out=tmp_path, data=data, photos=photos))
        with pytest.raises(ValueError, match="No .tar shards"):
            evaluate.load_cases(evaluate.EvaluationSettings(out=tmp_path, data=tmp_path))

    def test_a_folder_of_another_form_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="profiles/<person>/"):
            photo_cases(tmp_path, 256)

    def test_the_options_name_the_methods_and_studies_there_are(self):
        from icportrait.training.evaluation.baselines import METHODS
        from icportrait.training.evaluation.studies import STUDIES
        from icportrait.training.evaluation.studies.common import StudyName

        assert tuple(METHODS) == get_args(evaluate.Method)
        assert tuple(STUDIES) == get_args(StudyName)
        folder = result_cache.Path(evaluate.__file__).parent / "studies"
        files = {path.stem.replace("_", "-") for path in folder.glob("*.py")} - {"--init--", "common"}
        assert files == set(STUDIES)


class TestFaceFromFive:
    def test_box_is_where_dlib_would_put_it(self):
        """FFHQ's rule by hand: eyes 76 apart, mouth 80 below: side 2 * max(152, 144) = 304; box 304 / 1.5, 5 % lower."""
        face = face_from_five(FIVE)
        side = 304 / 1.5
        assert face.side == pytest.approx(side)
        assert face.centre == pytest.approx((128, 110 + 8 + 0.05 * side))


class TestArcFace:
    def test_found_in_a_pack_and_nowhere_else(self, tmp_path):
        assert find_arcface([tmp_path]) is None
        pack = tmp_path / "models" / "buffalo_l"
        pack.mkdir(parents=True)
        (pack / "det_10g.onnx").touch()
        assert find_arcface([tmp_path]) is None
        (pack / "w600k_r50.onnx").touch()
        assert find_arcface([tmp_path]) == pack / "w600k_r50.onnx"

    def test_its_input_is_the_five_point_crop(self):
        from icportrait.training.evaluation.recognisers import arcface_input

        image = picture(0.5, 256)
        image[:, 150 - 4 : 150 + 4, 128 - 4 : 128 + 4, 0] = 1.0  # a red nose tip
        fed = arcface_input(image, face_from_five(FIVE))
        assert fed.shape == (1, 3, 112, 112) and fed.dtype == np.float32
        y, x = np.unravel_index(fed[0, 0].argmax(), (112, 112))
        assert abs(x - 56) < 6 and abs(y - 72) < 8  # the template's nose tip
        assert fed[0, 1].max() == pytest.approx(0, abs=0.01) and fed[0, 0].max() > 0.9


class TestChartsAndReport:
    def test_a_higher_value_is_drawn_higher(self):
        image = np.asarray(charts.bar_chart({"low": 1.0, "high": 3.0, "none": None}, "t", "y"))
        blue, orange = ((image == colour).all(axis=-1).sum() for colour in ((0, 114, 178), (213, 94, 0)))
        assert orange > 2.5 * blue > 0

    def test_a_chart_of_nothing_is_refused(self):
        with pytest.raises(ValueError, match="no points"):
            charts.line_chart({"a": [(0, None)]}, "t", "x", "y")
        with pytest.raises(ValueError, match="no bars"):
            charts.bar_chart({"a": None}, "t", "y")

    def test_the_page_is_one_file_with_escaped_text(self, tmp_path):
        page = Page("a < b")
        page.table(["m", "v"], [["x & y", 0.25], ["z", 0.5], ["w", None]], [0, 1])
        page.picture(charts.line_chart({"a": [(0, 1), (1, 2)]}, "t", "x", "y"), "alt")
        page.write(tmp_path / "r.html")
        text = (tmp_path / "r.html").read_text()
        assert "a &lt; b" in text and "x &amp; y" in text and '<td class="best">0.500</td>' in text and "–" in text
        assert "data:image/png;base64," in text and "http" not in text

    def test_a_constant_series_still_draws(self):
        assert charts.line_chart({"a": [(1, 2.0)]}, "t", "x", "y").size == (640, 380)
        assert statistics.summary([2.0])["median"] == 2.0
