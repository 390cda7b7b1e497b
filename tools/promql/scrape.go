package main

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

// scrape is a request for the labels with which Prometheus stores the series of one target.
type scrape struct {
	// Labels of the target as discovered, and the relabel configurations of the job, in Prometheus' names.
	Target        map[string]string `json:"target"`
	Relabel       []rule            `json:"relabel"`
	MetricRelabel []rule            `json:"metric_relabel"`
	HonorLabels   bool              `json:"honor_labels"`
	// Labels of the series that the target exposes, the name included.
	Series []map[string]string `json:"series"`
}

// rule is a relabel configuration with Prometheus' defaults.
type rule struct{ relabel.Config }

func (r *rule) UnmarshalJSON(text []byte) error {
	r.Config = relabel.DefaultRelabelConfig
	if err := json.Unmarshal(text, &r.Config); err != nil {
		return err
	}
	return r.Validate(model.UTF8Validation)
}

// stored has the labels of the target and of each series; null for what is dropped.
type stored struct {
	Target map[string]string   `json:"target"`
	Series []map[string]string `json:"series"`
}

// take follows Prometheus' scrape/target.go, PopulateLabels, and scrape/scrape.go, mutateSampleLabels.
func (s scrape) take() stored {
	builder := labels.NewBuilder(labels.FromMap(s.Target))
	kept := stored{Series: make([]map[string]string, len(s.Series))}
	if !relabel.ProcessBuilder(builder, configs(s.Relabel)...) {
		return kept
	}
	if builder.Get(model.InstanceLabel) == "" {
		builder.Set(model.InstanceLabel, builder.Get(model.AddressLabel))
	}
	builder.Range(func(l labels.Label) {
		if strings.HasPrefix(l.Name, model.ReservedLabelPrefix) {
			builder.Del(l.Name)
		}
	})
	target := builder.Labels()
	kept.Target = target.Map()
	for number, exposed := range s.Series {
		series := labels.NewBuilder(merge(labels.FromMap(exposed), target, s.HonorLabels))
		if relabel.ProcessBuilder(series, configs(s.MetricRelabel)...) {
			kept.Series[number] = series.Labels().Map()
		}
	}
	return kept
}

// merge joins the labels of a series and of its target. The target's replace those of the series, unless they are honored.
func merge(exposed, target labels.Labels, honor bool) labels.Labels {
	builder := labels.NewBuilder(exposed)
	var renamed []labels.Label
	target.Range(func(l labels.Label) {
		own := exposed.Get(l.Name)
		if honor && exposed.Has(l.Name) {
			return
		}
		if own != "" {
			renamed = append(renamed, labels.Label{Name: l.Name, Value: own})
		}
		builder.Set(l.Name, l.Value)
	})
	slices.SortStableFunc(renamed, func(one, other labels.Label) int { return len(one.Name) - len(other.Name) })
	for _, l := range renamed {
		name := model.ExportedLabelPrefix + l.Name
		for builder.Get(name) != "" {
			name = model.ExportedLabelPrefix + name
		}
		builder.Set(name, l.Value)
	}
	return builder.Labels()
}

func configs(rules []rule) []*relabel.Config {
	var all []*relabel.Config
	for number := range rules {
		all = append(all, &rules[number].Config)
	}
	return all
}
