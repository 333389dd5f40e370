//! CBOR form of what custodians tell each other: reports of leaves, comparisons of sets.

use std::sync::Arc;

use minicbor::decode::Decoder;
use minicbor::encode::{Encoder, Write};

use super::{
    Written, array, head, list, read_array, read_bytes, read_items, read_label, read_placement,
    read_shard, write_items, write_shard,
};
use crate::contact::Positions;
use crate::shard::SHARD_DEPTH_MAX;
use crate::wire::{
    COMPARED_MAX, Compared, ELEMENTS_MAX, ElementRange, ElementState, LEAF_CUSTODIANS_MAX,
    LEAVES_CUSTODIANS_MAX, LEAVES_MAX, LeafView, RANGES_MAX, RECONCILED_ITEMS_MAX, RangeHeld,
    Reconcile, Report, Response, WireError, ZONE_BYTES_MAX,
};

pub(super) fn write_report<W: Write>(e: &mut Encoder<W>, report: &Report) -> Written<W> {
    e.array(5)?.u8(6)?;
    write_shard(e, &report.shard)?;
    e.u8(report.placement)?.u32(report.count)?;
    match &report.zone {
        Some(zone) => e.bytes(zone)?.ok(),
        None => e.bytes(&[])?.ok(),
    }
}

pub(super) fn read_report(d: &mut Decoder<'_>) -> Result<Report, WireError> {
    let shard = read_shard(d)?;
    if shard.depth == 0 {
        return Err(WireError::Invalid("depth of a leaf"));
    }
    let (placement, count) = (read_placement(d)?, d.u32()?);
    let zone = read_bytes(d, ZONE_BYTES_MAX, "zone map bytes")?;
    Ok(Report { shard, placement, count, zone: (!zone.is_empty()).then_some(zone) })
}

pub(super) fn write_compare<W: Write>(e: &mut Encoder<W>, sets: &[Compared]) -> Written<W> {
    e.array(2)?.u8(7)?.array(sets.len() as u64)?;
    sets.iter().try_for_each(|set| e.array(2)?.u64(set.shard)?.u64(set.fingerprint)?.ok())
}

pub(super) fn read_compare(d: &mut Decoder<'_>) -> Result<Vec<Compared>, WireError> {
    list(d, COMPARED_MAX, "compared sets", |d| {
        head(d, 2, "compared set")?;
        Ok(Compared { shard: d.u64()?, fingerprint: d.u64()? })
    })
}

pub(super) fn write_reconcile<W: Write>(e: &mut Encoder<W>, asked: &Reconcile) -> Written<W> {
    e.array(6)?.u8(8)?;
    write_shard(e, &asked.shard)?;
    e.u8(asked.placement)?.str(&asked.label)?.bool(asked.closed)?;
    write_ranges(e, &asked.ranges)
}

pub(super) fn read_reconcile(d: &mut Decoder<'_>) -> Result<Reconcile, WireError> {
    let (shard, placement) = (read_shard(d)?, read_placement(d)?);
    let (label, closed) = (Arc::from(read_label(d)?), d.bool()?);
    Ok(Reconcile { shard, placement, label, closed, ranges: read_ranges(d)? })
}

pub(super) fn write_differ<W: Write>(e: &mut Encoder<W>, at: &[u16]) -> Written<W> {
    e.array(2)?.u8(7)?.array(at.len() as u64)?;
    at.iter().try_for_each(|at| e.u16(*at)?.ok())
}

pub(super) fn read_differ(d: &mut Decoder<'_>) -> Result<Response, WireError> {
    let at = list(d, COMPARED_MAX, "differing sets", |d| Ok(d.u16()?))?;
    if at.is_sorted_by(|a, b| a < b) {
        Ok(Response::Differ { at })
    } else {
        Err(WireError::Invalid("order of differing sets"))
    }
}

pub(super) fn write_reconciled<W: Write>(
    e: &mut Encoder<W>,
    ranges: &[ElementRange],
    items: &[crate::item::ItemBytes],
    wants: &[u64],
) -> Written<W> {
    e.array(4)?.u8(8)?;
    write_ranges(e, ranges)?;
    write_items(e, items)?;
    e.array(wants.len() as u64)?;
    wants.iter().try_for_each(|name| e.u64(*name)?.ok())
}

pub(super) fn read_reconciled(d: &mut Decoder<'_>) -> Result<Response, WireError> {
    let ranges = read_ranges(d)?;
    let items = read_items(d, RECONCILED_ITEMS_MAX, "reconciled items")?;
    let wants = list(d, ELEMENTS_MAX, "wanted elements", |d| Ok(d.u64()?))?;
    Ok(Response::Reconciled { ranges, items, wants })
}

fn write_ranges<W: Write>(e: &mut Encoder<W>, ranges: &[ElementRange]) -> Written<W> {
    e.array(ranges.len() as u64)?;
    ranges.iter().try_for_each(|range| {
        e.array(3)?.u64(range.first)?.u64(range.last)?;
        match &range.held {
            RangeHeld::Sum(sum) => e.array(1)?.u64(*sum)?.ok(),
            RangeHeld::List(elements) => {
                e.array(2)?.u8(1)?.array(elements.len() as u64)?;
                elements.iter().try_for_each(|element| {
                    e.array(3)?.u64(element.name)?.u64(element.seq)?.u64(element.beat)?.ok()
                })
            }
        }
    })
}

fn read_ranges(d: &mut Decoder<'_>) -> Result<Vec<ElementRange>, WireError> {
    let mut left = ELEMENTS_MAX;
    let ranges = list(d, RANGES_MAX, "ranges", |d| {
        head(d, 3, "range")?;
        let (first, last) = (d.u64()?, d.u64()?);
        let held = read_held(d, left)?;
        if let RangeHeld::List(elements) = &held {
            left -= elements.len();
            let sorted = elements.is_sorted_by(|a, b| a.name < b.name);
            let inside = elements.iter().all(|element| (first..=last).contains(&element.name));
            if !sorted || !inside {
                return Err(WireError::Invalid("order of elements"));
            }
        }
        Ok(ElementRange { first, last, held })
    })?;
    let in_order = ranges.iter().all(|range| range.first <= range.last)
        && ranges.is_sorted_by(|a, b| a.last < b.first);
    if in_order { Ok(ranges) } else { Err(WireError::Invalid("order of ranges")) }
}

fn read_held(d: &mut Decoder<'_>, left: usize) -> Result<RangeHeld, WireError> {
    match array(d)? {
        1 => Ok(RangeHeld::Sum(d.u64()?)),
        2 => {
            if d.u8()? != 1 {
                return Err(WireError::Invalid("content of a range"));
            }
            let elements = list(d, left, "elements", |d| {
                head(d, 3, "element")?;
                Ok(ElementState { name: d.u64()?, seq: d.u64()?, beat: d.u64()? })
            })?;
            Ok(RangeHeld::List(elements))
        }
        _ => Err(WireError::Invalid("content of a range")),
    }
}

pub(super) fn write_leaves<W: Write>(e: &mut Encoder<W>, leaves: &[LeafView]) -> Written<W> {
    e.array(leaves.len() as u64)?;
    leaves.iter().try_for_each(|leaf| {
        e.array(5)?.u8(leaf.depth)?.bytes(&leaf.prefix)?.u32(leaf.count)?.bool(leaf.may_match)?;
        super::write_contacts(e, &leaf.custodians)
    })
}

pub(super) fn read_leaves(
    d: &mut Decoder<'_>,
    positions: &mut dyn Positions,
) -> Result<Vec<LeafView>, WireError> {
    let mut left = LEAVES_CUSTODIANS_MAX;
    let leaves = list(d, LEAVES_MAX, "leaves", |d| {
        head(d, 5, "leaf")?;
        let (depth, prefix) = (d.u8()?, read_array(d)?);
        let (count, may_match) = (d.u32()?, d.bool()?);
        let custodians = super::read_named(d, left.min(LEAF_CUSTODIANS_MAX), positions)?;
        left -= custodians.len();
        let custodians = custodians.into_iter().flatten().collect();
        Ok(LeafView { depth, prefix, count, may_match, custodians })
    })?;
    let place = |leaf: &LeafView| (leaf.depth, leaf.prefix);
    let canonical = leaves.iter().all(|leaf| {
        let prefix = u32::from_be_bytes(leaf.prefix);
        (1..=SHARD_DEPTH_MAX).contains(&leaf.depth)
            && prefix.checked_shl(u32::from(leaf.depth)).unwrap_or(0) == 0
    });
    if canonical && leaves.is_sorted_by(|a, b| place(a) < place(b)) {
        Ok(leaves)
    } else {
        Err(WireError::Invalid("leaves"))
    }
}
