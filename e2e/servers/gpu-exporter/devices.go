package main

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// An inventory is what every node has.
type inventory struct {
	node, model, hostname string
	gpus, shares, memory  int
}

// A place is a device, or a share or MIG instance of it, that a container holds.
type place struct {
	container string
	gpu       int
	kind      kind
	profile   string
	instance  int // GPU_I_ID, of MIG
}

// slices that a MIG device is cut into. NVIDIA, MIG user guide.
const migSlices = 7

// slices that the place takes of its device.
func (p place) slices() int {
	number, _, _ := strings.Cut(p.profile, "g.")
	if taken, err := strconv.Atoi(number); err == nil && taken > 0 {
		return taken
	}
	return 1
}

// allot gives each pod its devices. Who has some keeps them: a device must not change its pod between two scrapes.
// The result names the places by the pods' UIDs.
func (i inventory) allot(pods []pod, held map[string][]place) map[string][]place {
	taken := map[string][]place{} // by node
	now := map[string][]place{}
	for _, pod := range pods {
		if places, has := held[pod.uid]; has {
			now[pod.uid] = places
			taken[pod.node] = append(taken[pod.node], places...)
		}
	}
	for _, pod := range pods {
		if _, has := now[pod.uid]; has {
			continue
		}
		for _, ask := range pod.asks {
			for range ask.count {
				place := i.free(taken[pod.node], ask)
				now[pod.uid] = append(now[pod.uid], place)
				taken[pod.node] = append(taken[pod.node], place)
			}
		}
	}
	return now
}

// free is the first place that suits: a device is whole, shared or cut by MIG, one of them at a time.
func (i inventory) free(taken []place, ask ask) place {
	for gpu := 0; ; gpu++ {
		wanted := place{container: ask.container, gpu: gpu, kind: ask.kind, profile: ask.profile}
		room := map[kind]int{whole: 1, shared: i.shares, mig: migSlices}[ask.kind]
		fits := true
		for _, other := range taken {
			if other.gpu != gpu {
				continue
			}
			fits = fits && other.kind == wanted.kind
			if wanted.kind == mig {
				room -= other.slices()
				wanted.instance = max(wanted.instance, other.instance)
			} else {
				room--
			}
		}
		need := 1
		if wanted.kind == mig {
			need = wanted.slices()
			wanted.instance++
		}
		if fits && room >= need {
			return wanted
		}
	}
}

// memoryUsed is what a server holds of its place: nine tenths, as model servers that allocate at the start do.
func (i inventory) memoryUsed(p place) int {
	memory := i.memory
	switch p.kind {
	case shared:
		memory /= i.shares
	case mig:
		_, size, _ := strings.Cut(p.profile, ".")
		if gigabytes, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSuffix(size, "+me"), "gb")); err == nil {
			memory = gigabytes * 1024
		}
	}
	return memory * 9 / 10
}

// shown is the number of devices to export for a node: its GPUs, and those that pods got beyond them.
func (i inventory) shown(places []place) int {
	number := i.gpus
	for _, place := range places {
		number = max(number, place.gpu+1)
	}
	return number
}

// labels of a device, in dcgm-exporter's order.
func (i inventory) labels(node string, gpu int) []string {
	hash := fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%s/%d", node, gpu)))
	uuid := strings.Join([]string{hash[:8], hash[8:12], hash[12:16], hash[16:20], hash[20:32]}, "-")
	return []string{
		label("gpu", strconv.Itoa(gpu)),
		label("UUID", "GPU-"+uuid),
		label("pci_bus_id", fmt.Sprintf("00000000:%02X:00.0", 16+gpu)),
		label("device", fmt.Sprintf("nvidia%d", gpu)),
		label("modelName", i.model),
	}
}

func (i inventory) instanceLabels(p place) []string {
	if p.kind != mig {
		return nil
	}
	return []string{label("GPU_I_PROFILE", p.profile), label("GPU_I_ID", strconv.Itoa(p.instance))}
}

func label(name, value string) string {
	return fmt.Sprintf("%s=%q", name, value)
}

func nodes(i inventory, pods []pod) []string {
	var found []string
	if i.node != "" {
		found = append(found, i.node)
	}
	for _, pod := range pods {
		found = append(found, pod.node)
	}
	slices.Sort(found)
	return slices.Compact(found)
}
