// Command promql answers questions about PromQL with Prometheus' own parser and engine, without Ebbtide's code.
//
// It reads one JSON request per line from stdin and writes one JSON response per line. A request has a query of a member
// of a project, the query that Ebbtide sends to Prometheus for it, the project's namespace, and series in a text format:
// the labels, the first value, and its growth in each scrape. A request with `step` adds scraped samples, and evaluates queries
// over all that were added (world.go). A request with `scrape` returns the labels of scraped series after relabeling (scrape.go).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"log"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

const (
	maxLine   = 16 << 20
	namespace = "namespace"
	// Scrapes every 15 s for an hour; queries are evaluated at the last one.
	scrapes  = 240
	interval = 15 * time.Second
)

type request struct {
	Query     string  `json:"query"`
	Scoped    string  `json:"scoped"`
	Namespace string  `json:"namespace"`
	Series    []row   `json:"series"`
	Step      *step   `json:"step"`
	Scrape    *scrape `json:"scrape"`
}

type row struct {
	Labels map[string]string `json:"labels"`
	First  float64           `json:"first"`
	Growth float64           `json:"growth"`
}

type response struct {
	// Error of parsing the scoped query, or of evaluating it.
	Error string `json:"error,omitempty"`
	// Selectors of the scoped query, and those of them without the namespace's matcher.
	Selectors int      `json:"selectors"`
	Open      []string `json:"open,omitempty"`
	// Values of the scoped query, and those of the member's query on series of the namespace alone.
	Values string `json:"values"`
	Own    string `json:"own"`
}

type sample struct {
	t int64
	f float64
}

func (s sample) T() int64                      { return s.t }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.f }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }

var (
	reader = parser.NewParser(parser.Options{EnableExperimentalFunctions: true})
	engine = promql.NewEngine(promql.EngineOpts{
		MaxSamples: 10_000_000, Timeout: 10 * time.Second, LookbackDelta: 5 * time.Minute,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
		EnableAtModifier:         true, EnableNegativeOffset: true, Parser: reader,
	})
)

// evaluate returns the result of a query as text.
func evaluate(query string, series []row) (string, error) {
	end := time.UnixMilli(0).Add(scrapes * interval)
	parsed, err := engine.NewInstantQuery(context.Background(), queryable(series), nil, query, end)
	if err != nil {
		return "", err
	}
	defer parsed.Close()
	result := parsed.Exec(context.Background())
	if result.Err != nil {
		return "", result.Err
	}
	if vector, ok := result.Value.(promql.Vector); ok {
		slices.SortFunc(vector, func(one, other promql.Sample) int { return labels.Compare(one.Metric, other.Metric) })
	}
	return result.Value.String(), nil
}

// queryable returns a storage with some series.
func queryable(rows []row) storage.Queryable {
	return &storage.MockQueryable{MockQuerier: &storage.MockQuerier{
		SelectMockFunction: func(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
			var found []storage.Series
			for _, item := range rows {
				own := labels.FromMap(item.Labels)
				if slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(own.Get(m.Name)) }) {
					continue
				}
				samples := make([]chunks.Sample, scrapes+1)
				for n := range samples {
					at := int64(n) * interval.Milliseconds()
					samples[n] = sample{at, item.First + float64(n)*item.Growth}
				}
				found = append(found, storage.NewListSeries(own, samples))
			}
			slices.SortFunc(found, func(one, other storage.Series) int { return labels.Compare(one.Labels(), other.Labels()) })
			return &seriesSet{rows: found, at: -1}
		},
	}}
}

func format(number float64) string { return strconv.FormatFloat(number, 'g', -1, 64) }

func answer(ask request) (response, error) {
	expression, err := reader.ParseExpr(ask.Scoped)
	if err != nil {
		return response{}, err
	}
	told := response{}
	parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			told.Selectors++
			if !slices.ContainsFunc(selector.LabelMatchers, func(m *labels.Matcher) bool {
				return m.Name == namespace && m.Type == labels.MatchEqual && m.Value == ask.Namespace
			}) {
				told.Open = append(told.Open, selector.String())
			}
		}
		return nil
	})
	if told.Values, err = evaluate(ask.Scoped, ask.Series); err != nil {
		return told, err
	}
	var own []row
	for _, item := range ask.Series {
		if item.Labels[namespace] == ask.Namespace {
			own = append(own, item)
		}
	}
	told.Own, err = evaluate(ask.Query, own)
	return told, err
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, maxLine)
	out := json.NewEncoder(os.Stdout)
	var scraper world
	for lines.Scan() {
		var ask request
		if err := json.Unmarshal(lines.Bytes(), &ask); err != nil {
			log.Fatal(err)
		}
		if ask.Step != nil {
			if err := out.Encode(scraper.take(*ask.Step)); err != nil {
				log.Fatal(err)
			}
			continue
		}
		if ask.Scrape != nil {
			if err := out.Encode(ask.Scrape.take()); err != nil {
				log.Fatal(err)
			}
			continue
		}
		told, err := answer(ask)
		if err != nil {
			told.Error = err.Error()
		}
		if err := out.Encode(told); err != nil {
			log.Fatal(err)
		}
	}
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
}
