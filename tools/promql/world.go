package main

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// step is a request about scraped series, which stay from request to request until `reset`.
type step struct {
	Reset bool `json:"reset"`
	// Labels of new series, by a number that the caller chooses.
	Series map[int]map[string]string `json:"series"`
	// The number of a series, a time in seconds and a value; null is the mark of a series that ended or was not scraped.
	Samples []point `json:"samples"`
	// Queries to evaluate at a time in seconds, with a lookback in seconds.
	Ask      []string `json:"ask"`
	At       float64  `json:"at"`
	Lookback float64  `json:"lookback"`
	// Seconds before `at` of which samples are kept.
	Keep float64 `json:"keep"`
}

type point struct {
	Series int      `json:"n"`
	At     float64  `json:"t"`
	Value  *float64 `json:"v"`
}

// answers has one item for each query: its error, or the labels and the value of each series.
type answers struct {
	Answers []outcome `json:"answers"`
}

type outcome struct {
	Error string `json:"error,omitempty"`
	Rows  []pair `json:"rows"`
}

type pair struct {
	Labels map[string]string `json:"labels"`
	// Text, since JSON has neither NaN nor infinity.
	Value string `json:"value"`
}

type scraped struct {
	labels  labels.Labels
	samples []chunks.Sample
}

type world struct{ series map[int]*scraped }

func (w *world) Select(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	var found []storage.Series
	for _, item := range w.series {
		if len(item.samples) > 0 && !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(item.labels.Get(m.Name)) }) {
			found = append(found, storage.NewListSeries(item.labels, item.samples))
		}
	}
	slices.SortFunc(found, func(one, other storage.Series) int { return labels.Compare(one.Labels(), other.Labels()) })
	return &seriesSet{rows: found, at: -1}
}

// take adds the samples of a request, and answers its queries.
func (w *world) take(ask step) answers {
	if ask.Reset || w.series == nil {
		w.series = map[int]*scraped{}
	}
	for number, names := range ask.Series {
		w.series[number] = &scraped{labels: labels.FromMap(names)}
	}
	for _, item := range ask.Samples {
		number := math.Float64frombits(value.StaleNaN)
		if item.Value != nil {
			number = *item.Value
		}
		row := w.series[item.Series]
		row.samples = append(row.samples, sample{milliseconds(item.At), number})
	}
	if ask.Keep > 0 {
		oldest := milliseconds(ask.At - ask.Keep)
		for number, row := range w.series {
			row.samples = slices.DeleteFunc(row.samples, func(item chunks.Sample) bool { return item.T() < oldest })
			if len(row.samples) == 0 {
				delete(w.series, number)
			}
		}
	}
	told := answers{Answers: []outcome{}}
	for _, query := range ask.Ask {
		told.Answers = append(told.Answers, w.evaluate(query, ask))
	}
	return told
}

func (w *world) evaluate(query string, ask step) outcome {
	source := &storage.MockQueryable{MockQuerier: &storage.MockQuerier{SelectMockFunction: w.Select}}
	options := promql.NewPrometheusQueryOpts(false, time.Duration(ask.Lookback*float64(time.Second)), nil)
	parsed, err := engine.NewInstantQuery(context.Background(), source, options, query, time.UnixMilli(milliseconds(ask.At)))
	if err != nil {
		return outcome{Error: err.Error()}
	}
	defer parsed.Close()
	result := parsed.Exec(context.Background())
	if result.Err != nil {
		return outcome{Error: result.Err.Error()}
	}
	told := outcome{Rows: []pair{}}
	switch found := result.Value.(type) {
	case promql.Vector:
		for _, row := range found {
			told.Rows = append(told.Rows, pair{row.Metric.Map(), format(row.F)})
		}
	case promql.Scalar:
		told.Rows = append(told.Rows, pair{map[string]string{}, format(found.V)})
	default:
		told.Error = "the query returns no vector"
	}
	return told
}

func milliseconds(seconds float64) int64 { return int64(math.Round(seconds * 1000)) }
