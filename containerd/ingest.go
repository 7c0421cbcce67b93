package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	contentv1 "github.com/containerd/containerd/api/services/content/v1"
	imagesv1 "github.com/containerd/containerd/api/services/images/v1"
	leasesv1 "github.com/containerd/containerd/api/services/leases/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"pinnace/containerd/archive"
)

const chunk = 1 << 20 // below the 16 MiB that a message may have

// The labels that make CRI take an image for its own, and never collect it.
const (
	managedLabel = "io.cri-containerd.image"
	pinnedLabel  = "io.cri-containerd.pinned"
)

// importer writes images into containerd's store over its own services.
type importer struct {
	conn    *grpc.ClientConn
	content contentv1.ContentClient
	images  imagesv1.ImagesClient
	leases  leasesv1.LeasesClient
}

func newImporter(conn *grpc.ClientConn) importer {
	return importer{conn, contentv1.NewContentClient(conn), imagesv1.NewImagesClient(conn), leasesv1.NewLeasesClient(conn)}
}

// add writes the image: what it consists of first, its names last, so that a
// half-written one is never seen. A lease keeps the parts meanwhile; without names
// the garbage collector takes them.
func (im importer) add(ctx context.Context, img archive.Image) error {
	lease := "pinnace-load-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	_, err := im.leases.Create(ctx, &leasesv1.CreateRequest{ID: lease, Labels: map[string]string{
		"containerd.io/gc.expire": time.Now().Add(time.Hour).UTC().Format(time.RFC3339), // should we die
	}})
	if err != nil {
		return fmt.Errorf("lease content: %w", err)
	}
	held := metadata.AppendToOutgoingContext(ctx, "containerd-lease", lease)
	err = im.write(held, img)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if _, leaseErr := im.leases.Delete(end, &leasesv1.DeleteRequest{ID: lease}); leaseErr != nil {
		err = errors.Join(err, fmt.Errorf("end lease of content: %w", leaseErr))
	}
	return err
}

func (im importer) write(ctx context.Context, img archive.Image) error {
	refs := map[string]string{"containerd.io/gc.ref.content.config": img.Config().Digest}
	for i, layer := range img.Layers() {
		refs["containerd.io/gc.ref.content.l."+strconv.Itoa(i)] = layer.Digest
	}
	target := img.Manifest()
	for _, b := range img.Blobs {
		var labels map[string]string
		if b.Digest == target.Digest {
			labels = refs // they keep the rest from the garbage collector
		}
		if err := im.store(ctx, b, labels); err != nil {
			return err
		}
	}
	// CRI knows an image by its configuration's digest; the names point at it.
	if err := im.name(ctx, img.Config().Digest, target, false); err != nil {
		return err
	}
	for _, name := range img.Names {
		if err := im.name(ctx, name, target, true); err != nil {
			return err
		}
		if err := seen(ctx, im.conn, name); err != nil {
			return err
		}
	}
	return nil
}

// name lets name mean target, whatever it meant before.
func (im importer) name(ctx context.Context, name string, target archive.Blob, pinned bool) error {
	img := &imagesv1.Image{
		Name:   name,
		Labels: map[string]string{managedLabel: "managed"},
		Target: &types.Descriptor{MediaType: target.MediaType, Digest: target.Digest, Size: target.Size},
	}
	if pinned {
		img.Labels[pinnedLabel] = "pinned"
	}
	_, err := im.images.Create(ctx, &imagesv1.CreateImageRequest{Image: img})
	if status.Code(err) == codes.AlreadyExists {
		mask := &fieldmaskpb.FieldMask{Paths: []string{"target", "labels"}}
		_, err = im.images.Update(ctx, &imagesv1.UpdateImageRequest{Image: img, UpdateMask: mask})
	}
	if err != nil {
		return fmt.Errorf("name image %s: %w", name, err)
	}
	return nil
}

// store writes a blob that is not there yet and sets its labels.
func (im importer) store(ctx context.Context, b archive.Blob, labels map[string]string) error {
	ref := "pinnace-load-" + b.Digest
	err := im.upload(ctx, ref, b, labels)
	if status.Code(err) == codes.AlreadyExists {
		err = im.label(ctx, b.Digest, labels)
	} else if err != nil {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_, _ = im.content.Abort(end, &contentv1.AbortRequest{Ref: ref}) // the first error counts; the collector ends what stays
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", b.Digest, err)
	}
	return nil
}

func (im importer) upload(ctx context.Context, ref string, b archive.Blob, labels map[string]string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	stream, err := im.content.Write(ctx)
	if err != nil {
		return err
	}
	exchange := func(req *contentv1.WriteContentRequest) (int64, error) {
		req.Ref, req.Total, req.Expected = ref, b.Size, b.Digest
		if err := stream.Send(req); err != nil && !errors.Is(err, io.EOF) { // EOF: Recv has the reason
			return 0, err
		}
		resp, err := stream.Recv()
		return resp.GetOffset(), err
	}
	offset, err := exchange(&contentv1.WriteContentRequest{Action: contentv1.WriteAction_STAT})
	if err != nil {
		return err
	}
	buf := make([]byte, min(b.Size, chunk))
	for offset < b.Size { // it may begin where a start before us ended
		n, err := b.Content.ReadAt(buf, offset)
		if n == 0 {
			return err
		}
		if offset, err = exchange(&contentv1.WriteContentRequest{Action: contentv1.WriteAction_WRITE, Offset: offset, Data: buf[:n]}); err != nil {
			return err
		}
	}
	_, err = exchange(&contentv1.WriteContentRequest{Action: contentv1.WriteAction_COMMIT, Offset: b.Size, Labels: labels})
	return err
}

// label adds labels to content that was there before.
func (im importer) label(ctx context.Context, digest string, labels map[string]string) error {
	if len(labels) == 0 {
		return nil
	}
	mask := &fieldmaskpb.FieldMask{}
	for name := range labels {
		mask.Paths = append(mask.Paths, "labels."+name)
	}
	_, err := im.content.Update(ctx, &contentv1.UpdateRequest{
		Info:       &contentv1.Info{Digest: digest, Labels: labels},
		UpdateMask: mask,
	})
	return err
}
