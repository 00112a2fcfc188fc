//! The one place that speaks DynamoDB: which requests are sent. `client/call.rs` decides how long
//! to wait for an answer and whether to ask again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{Builder, IdentityCache, SharedInterceptor};
use aws_sdk_dynamodb::operation::update_item::UpdateItemOutput;
use aws_sdk_dynamodb::types::{
    AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure as OnFailure,
};
use cache_aws::AwsClient;
use cache_core::{
    CacheError, Clock, Condition, Entry, ErrorKind, Event, Expiry, NewEntry, Operation, Result,
    Timestamp, Ttl,
};

use crate::error::{BACKEND, error};
use crate::item::{Head, ITEM_BYTES, Item, Layout, Unreadable, forms_of, millis, number, seconds};
use crate::options::DynamoDbOptions;

mod batch;
mod call;
mod clear;
mod expressions;
mod integrity;
mod table;

use call::{Answer, Budget, Call, Idle, Repeat, Settled, settled};
use expressions::{COUNT, Expression, Expressions, MOVE, STAY, ours, ours_at};
use integrity::Integrity;

const GET: &str = "dynamodb:GetItem";
const PUT: &str = "dynamodb:PutItem";
const UPDATE: &str = "dynamodb:UpdateItem";
const DELETE: &str = "dynamodb:DeleteItem";

/// The key that a ping reads. Whether it is there does not matter.
const PING: &str = "ping";

/// A table, as the storage sees it.
#[derive(Debug)]
pub(crate) struct Client {
    sdk: aws_sdk_dynamodb::Client,
    aws: AwsClient,
    options: DynamoDbOptions,
    layout: Layout,
    expressions: Expressions,
    address: String,
    is_closed: AtomicBool,
    idle: Idle,
    /// Whether the server has been seen to return the item for which a condition did not hold.
    /// AWS does; not every emulator.
    tells_old_items: AtomicBool,
}

impl Client {
    /// A client without a connection. Reads the file of roots, if there is one, and does no other
    /// I/O.
    pub(crate) fn new(mut options: DynamoDbOptions) -> Result<Self> {
        options.region = options.aws().with_region_from_env().region;
        options.check()?;
        let aws = AwsClient::new(options.aws())?;
        let mut config = Builder::from(&aws.sdk_config())
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .identity_cache(IdentityCache::no_cache());
        // For good: to ask at each of its hooks whether it is switched off takes the SDK 1 % of a
        // call.
        config.push_interceptor(SharedInterceptor::permanent(Integrity));
        let layout = Layout::new(&options);
        let place = aws.endpoint().unwrap_or(aws.region());
        Ok(Self {
            sdk: aws_sdk_dynamodb::Client::from_conf(config.build()),
            address: format!("{}@{place}", options.table),
            expressions: Expressions::new(&layout),
            layout,
            aws,
            options,
            is_closed: AtomicBool::new(false),
            idle: Idle::default(),
            tells_old_items: AtomicBool::new(false),
        })
    }

    /// `table@region`, or `table@endpoint`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// How long a single-key operation takes at most.
    pub(crate) fn timeout(&self) -> Duration {
        self.options.timeout
    }

    /// Tells whoever measures it.
    pub(crate) fn tell(&self, event: &Event<'_>) {
        self.options.observers.tell(event);
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.options.clock
    }

    /// The longest value that fits an item, whatever its key and metadata.
    pub(crate) fn max_value_bytes(&self) -> usize {
        let room = self.layout.room_for_value(cache_core::MAX_KEY_BYTES);
        self.options
            .max_value_bytes
            .map_or(room, |most| most.min(room))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    pub(crate) fn check_open(&self, operation: Operation) -> Result<()> {
        if self.is_closed() {
            return Err(CacheError::closed(BACKEND, operation));
        }
        Ok(())
    }

    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        let call = Call::read(GET, self.single());
        self.get_projected(PING, &self.expressions.key, call)
            .await?;
        Ok(())
    }

    /// The entry under a key, past its end or not.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Entry>> {
        let call = Call::read(GET, self.single());
        let item = self
            .get_item(key, self.options.consistent_reads, call)
            .await?;
        Ok(item.map(|item| self.layout.entry(item)).transpose()?)
    }

    /// The deadlines of the entry under a key.
    pub(crate) async fn head(&self, key: &str) -> Result<Option<Head>> {
        let call = Call::read(GET, self.single());
        let item = self
            .get_projected(key, &self.expressions.head, call)
            .await?;
        Ok(item.map(|item| Layout::head(&item)).transpose()?)
    }

    /// Writes if `condition` holds. Repeated after an unknown outcome, it also succeeds where it
    /// finds its own value.
    pub(crate) async fn set(
        &self,
        key: &str,
        entry: &NewEntry,
        condition: &Condition,
    ) -> Result<bool> {
        let now = self.now();
        let (expression, values) = match condition {
            Condition::Always => (&self.expressions.ours_or_nothing, None),
            Condition::IfAbsent => (&self.expressions.absent, Some(ours_at(now))),
            Condition::IfPresent => (&self.expressions.fresh, Some(ours_at(now))),
            // No item holds that much, and the server would not take it to compare either.
            Condition::IfEquals(expected) if expected.len() > ITEM_BYTES => return Ok(false),
            Condition::IfEquals(expected) => {
                let (expression, mut values) = self.expressions.equal(forms_of(expected));
                values.extend(ours_at(now));
                (expression, Some(values))
            }
            _ => {
                let message = "the condition is not known to this version";
                return Err(error(ErrorKind::Unsupported, message));
            }
        };
        let budget = self.single();
        let call = Call::write(PUT, Repeat::Same, budget);
        let answer = self.put(key, entry, now, expression, &values, call).await?;
        let may_have_happened = answer.after_unknown;
        let Err(old) = answer.reply else {
            return Ok(true);
        };
        let standing = self.standing(key, old, budget).await;
        let old = after(may_have_happened, standing)?;
        let head = old.as_ref().map(Layout::head).transpose();
        let head = after(may_have_happened, head.map_err(CacheError::from))?;
        if *condition == Condition::Always {
            let message = "the item under the key changed under the write";
            let changed = error(ErrorKind::Overloaded, message).with_code("conflict");
            return Err(changed.with_may_have_happened(may_have_happened));
        }
        let (Some(old), Some(head)) = (old, head) else {
            return Ok(false);
        };
        // The same bytes with another end are somebody else's.
        let is_own = head.expires_at == entry.deadlines(now).0;
        Ok(may_have_happened && is_own && self.layout.holds(&old, &entry.value))
    }

    /// Deletes what is ours and returns it, whether or not it can still be read.
    pub(crate) async fn delete(&self, key: &str) -> Result<Option<Item>> {
        let budget = self.single();
        let call = Call::write(DELETE, Repeat::Same, budget);
        let expression = &self.expressions.ours_or_nothing;
        let answer = self.delete_if(key, expression, &None, call).await?;
        match answer.reply {
            Ok(old) => Ok(old),
            Err(old) => {
                let old = self.standing(key, old, budget).await?;
                // Only what is not ours stands in the way; by now it may be gone.
                old.map_or(Ok(None), |_| Err(Unreadable::Foreign.into()))
            }
        }
    }

    pub(crate) async fn compare_and_delete(&self, key: &str, expected: &[u8]) -> Result<bool> {
        if expected.len() > ITEM_BYTES {
            return Ok(false);
        }
        let (expression, mut values) = self.expressions.equal(forms_of(expected));
        values.extend(ours_at(self.now()));
        let budget = self.single();
        let call = Call::write(DELETE, Repeat::Never, budget);
        let answer = self.delete_if(key, expression, &Some(values), call).await?;
        self.done_or_foreign(key, answer, budget).await
    }

    /// Gives a fresh entry a new time to live, and says whether there was one.
    pub(crate) async fn expire(&self, key: &str, ttl: Ttl) -> Result<bool> {
        let (now, budget) = (self.now(), self.single());
        let Expiry::At(end) = ttl.expiry(now) else {
            let expression = &self.expressions.stay;
            let call = Call::write(UPDATE, Repeat::Same, budget);
            let answer = self
                .update(key, STAY, expression, ours_at(now), call)
                .await?;
            return self.done_or_foreign(key, answer, budget).await;
        };
        self.move_deadline(key, now, end, budget).await
    }

    /// Ends the time to live of a fresh entry, and says whether there was one. Without a stale
    /// budget the entry goes.
    pub(crate) async fn expire_now(&self, key: &str) -> Result<bool> {
        let (now, budget) = (self.now(), self.single());
        let call = Call::write(DELETE, Repeat::Same, budget);
        let expression = &self.expressions.without_budget;
        let answer = self
            .delete_if(key, expression, &Some(ours_at(now)), call)
            .await?;
        let Err(old) = answer.reply else {
            return Ok(true);
        };
        let fresh = self.fresh(key, old, now, budget).await;
        match after(answer.after_unknown, fresh)? {
            Some(Head {
                stale_for: Some(_), ..
            }) => self.move_deadline(key, now, now, budget.anew()).await,
            _ => Ok(false),
        }
    }

    /// Moves the deadline of an entry that is fresh at `now` to `end`, and the end of its stale
    /// budget with it. The length of the budget is only read where there is one.
    async fn move_deadline(
        &self,
        key: &str,
        now: Timestamp,
        end: Timestamp,
        budget: Budget,
    ) -> Result<bool> {
        let mut stale_for = None;
        loop {
            let mut values = ours_at(now);
            values.insert(":e".to_owned(), number(end.as_millis()));
            let kept_until = end.after(stale_for.unwrap_or_default());
            values.insert(":t".to_owned(), seconds(kept_until));
            let expression = match stale_for {
                None => &self.expressions.move_without_budget,
                Some(span) => {
                    values.insert(":s".to_owned(), number(millis(span)));
                    &self.expressions.move_with_budget
                }
            };
            let call = Call::write(UPDATE, Repeat::Same, budget.anew());
            let answer = self.update(key, MOVE, expression, values, call).await?;
            let Err(old) = answer.reply else {
                return Ok(true);
            };
            // Fresh all the same: it has another stale budget than was supposed.
            let fresh = self.fresh(key, old, now, budget).await;
            match after(answer.after_unknown, fresh)? {
                Some(head) => stale_for = head.stale_for,
                None => return Ok(false),
            }
        }
    }

    /// Adds to a counter and returns the sum and when the counter ends.
    pub(crate) async fn increment(&self, key: &str, delta: i64, ttl: Ttl) -> Result<(i64, Expiry)> {
        let budget = self.single();
        loop {
            let now = self.now();
            let old = match self.add(key, delta, now, budget).await? {
                Ok(output) => return self.sum(output),
                Err(old) => self.standing(key, old, budget).await?,
            };
            let (expression, values) = match &old {
                None => (&self.expressions.nothing, None),
                Some(item) => match Layout::head(item)? {
                    head if head.is_fresh(now) => {
                        let count = self.layout.counter(item).ok_or_else(not_a_counter)?;
                        if count.checked_add(delta).is_none() {
                            return Err(overflow());
                        }
                        // It was something else a moment ago.
                        continue;
                    }
                    head => (&self.expressions.expired_at, Some(expired_at(head))),
                },
            };
            let counter = NewEntry::new(delta.to_string(), ttl);
            let call = Call::write(PUT, Repeat::Never, budget.anew());
            let answer = self
                .put(key, &counter, now, expression, &values, call)
                .await?;
            if answer.reply.is_ok() {
                return Ok((delta, ttl.expiry(now)));
            }
        }
    }

    /// Adds to a fresh counter that has room for it.
    async fn add(
        &self,
        key: &str,
        delta: i64,
        now: Timestamp,
        budget: Budget,
    ) -> Result<Settled<UpdateItemOutput>> {
        let mut values = ours_at(now);
        let (least, most) = if delta < 0 {
            (i64::MIN - delta, i64::MAX)
        } else {
            (i64::MIN, i64::MAX - delta)
        };
        for (name, value) in [
            (":delta", number(delta)),
            (":least", number(least)),
            (":most", number(most)),
            (":type", AttributeValue::S("N".to_owned())),
        ] {
            values.insert(name.to_owned(), value);
        }
        let call = Call::write(UPDATE, Repeat::Never, budget.anew());
        let expression = &self.expressions.countable;
        Ok(self
            .update(key, COUNT, expression, values, call)
            .await?
            .reply)
    }

    fn sum(&self, output: UpdateItemOutput) -> Result<(i64, Expiry)> {
        let item = output.attributes.unwrap_or_default();
        let sum = self.layout.counter(&item);
        let sum = sum.ok_or(Unreadable::Damaged("value"))?;
        Ok((sum, Layout::head(&item)?.expires_at))
    }

    /// Whether a write under a condition was done. If not, an item that is not ours is an error.
    async fn done_or_foreign<T>(
        &self,
        key: &str,
        answer: Answer<Settled<T>>,
        budget: Budget,
    ) -> Result<bool> {
        let Err(old) = answer.reply else {
            return Ok(true);
        };
        let standing = self.standing(key, old, budget).await;
        if let Some(old) = after(answer.after_unknown, standing)? {
            Layout::head(&old)?;
        }
        Ok(false)
    }

    /// The deadlines of the entry that stood in the way of a write, if it was fresh at `now`.
    async fn fresh(
        &self,
        key: &str,
        old: Option<Item>,
        now: Timestamp,
        budget: Budget,
    ) -> Result<Option<Head>> {
        let Some(old) = self.standing(key, old, budget).await? else {
            return Ok(None);
        };
        Ok(Some(Layout::head(&old)?).filter(|head| head.is_fresh(now)))
    }

    /// The item that stood in the way of a write, read again where the server did not tell it.
    async fn standing(&self, key: &str, old: Option<Item>, budget: Budget) -> Result<Option<Item>> {
        if old.is_some() {
            self.tells_old_items.store(true, Ordering::Relaxed);
            return Ok(old);
        }
        if self.tells_old_items.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.get_item(key, true, Call::read(GET, budget.anew()))
            .await
    }

    async fn get_item(&self, key: &str, consistent: bool, call: Call) -> Result<Option<Item>> {
        let answer = self.call(call, || {
            self.sdk
                .get_item()
                .table_name(&self.options.table)
                .set_key(Some(self.layout.key(key)))
                .consistent_read(consistent)
                .send()
        });
        Ok(answer.await?.reply.item)
    }

    async fn get_projected(
        &self,
        key: &str,
        projection: &Expression,
        call: Call,
    ) -> Result<Option<Item>> {
        let answer = self.call(call, || {
            self.sdk
                .get_item()
                .table_name(&self.options.table)
                .set_key(Some(self.layout.key(key)))
                .consistent_read(self.options.consistent_reads)
                .projection_expression(&projection.text)
                .set_expression_attribute_names(Some(projection.names.clone()))
                .send()
        });
        Ok(answer.await?.reply.item)
    }

    async fn put(
        &self,
        key: &str,
        entry: &NewEntry,
        now: Timestamp,
        condition: &Expression,
        values: &Option<Item>,
        call: Call,
    ) -> Result<Answer<Settled<()>>> {
        let answer = self.call(call, || {
            let request = self
                .sdk
                .put_item()
                .table_name(&self.options.table)
                .set_item(Some(self.layout.encode(key, entry, now)))
                .condition_expression(&condition.text)
                .set_expression_attribute_names(Some(condition.names.clone()))
                .set_expression_attribute_values(values.clone())
                .return_values_on_condition_check_failure(OnFailure::AllOld);
            async { settled(request.send().await.map(drop)) }
        });
        answer.await
    }

    async fn update(
        &self,
        key: &str,
        update: &str,
        condition: &Expression,
        values: Item,
        call: Call,
    ) -> Result<Answer<Settled<UpdateItemOutput>>> {
        let answer = self.call(call, || {
            let request = self
                .sdk
                .update_item()
                .table_name(&self.options.table)
                .set_key(Some(self.layout.key(key)))
                .update_expression(update)
                .condition_expression(&condition.text)
                .set_expression_attribute_names(Some(condition.names.clone()))
                .set_expression_attribute_values(Some(values.clone()))
                .set_return_values((update == COUNT).then_some(ReturnValue::AllNew))
                .return_values_on_condition_check_failure(OnFailure::AllOld);
            async { settled(request.send().await) }
        });
        answer.await
    }

    /// Deletes under a condition and returns what was there.
    async fn delete_if(
        &self,
        key: &str,
        condition: &Expression,
        values: &Option<Item>,
        call: Call,
    ) -> Result<Answer<Settled<Option<Item>>>> {
        let answer = self.call(call, || {
            let request = self
                .sdk
                .delete_item()
                .table_name(&self.options.table)
                .set_key(Some(self.layout.key(key)))
                .condition_expression(&condition.text)
                .set_expression_attribute_names(Some(condition.names.clone()))
                .set_expression_attribute_values(values.clone())
                .return_values(ReturnValue::AllOld)
                .return_values_on_condition_check_failure(OnFailure::AllOld);
            async {
                let deleted = request.send().await;
                settled(deleted.map(|output| output.attributes))
            }
        });
        answer.await
    }

    fn single(&self) -> Budget {
        Budget::new(self.options.attempt_timeout, self.options.timeout)
    }

    /// A request of a batch may take half of the time of the whole, so that one that is stuck can
    /// be repeated.
    fn bulk(&self) -> Budget {
        let whole = self.options.bulk_timeout;
        Budget::new(whole / 2, whole)
    }

    fn now(&self) -> Timestamp {
        self.options.clock.wall()
    }
}

/// What a call found out after a write, one of whose attempts may have been executed.
fn after<T>(unknown: bool, outcome: Result<T>) -> Result<T> {
    outcome.map_err(|error| error.with_may_have_happened(unknown))
}

/// The values of the condition that an entry still has the deadline that has passed.
fn expired_at(head: Head) -> Item {
    let mut values = ours();
    if let Expiry::At(end) = head.expires_at {
        values.insert(":e".to_owned(), number(end.as_millis()));
    }
    values
}

fn not_a_counter() -> CacheError {
    error(ErrorKind::NotACounter, "the entry is not a counter")
}

fn overflow() -> CacheError {
    let message = "the counter would leave the range of 64 bits";
    error(ErrorKind::Overflow, message)
}
